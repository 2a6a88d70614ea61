"""NeMo manifests and Kaldi folders are data sets of transcripts."""

import json

import numpy as np
import pytest

from gru_audio.data.source import open_source
from gru_audio.prepare import prepare
from gru_audio.settings import UserError
from tests.sounds import encode

RATE = 8000
SAID = ["yes no", "no", "no yes no", "yes"]


@pytest.fixture
def sounds(tmp_path):
    """Four sounds of one second, each of another pitch."""
    for i in range(4):
        tone = 0.3 * np.sin(np.arange(RATE) * (0.1 + 0.1 * i))
        (tmp_path / f"{i}.wav").write_bytes(encode(tone, RATE))
    return tmp_path


def prepared(home, manifest, **options):
    options = {"fractions": [50, 25, 25], "sample_rate": RATE} | options
    prepare("manifest", home / "data", name="mine", manifest=manifest, **options)
    return open_source("mine", home / "data")


def texts(source):
    """The texts by the names of the clips; None: unknown."""
    text, clips = source.values("text"), source.columns["clip"].tolist()
    known = [t if k else None for t, k in zip(text["text"].tolist(), text["known"], strict=True)]
    return dict(sorted(zip(clips, known, strict=True)))


def test_a_nemo_manifest(sounds):
    entries = [
        {"audio_filepath": f"{i}.wav", "duration": 1.0, "text": SAID[i], "lang": "en"}
        for i in range(4)
    ]
    entries[0] |= {"offset": 0.25, "duration": 0.5}
    path = sounds / "list.json"
    path.write_text("\n".join(map(json.dumps, entries)) + "\n\n")
    source = prepared(sounds, path)
    found = texts(source)
    assert list(found) == ["0.wav@0.25-0.75", "1.wav", "2.wav", "3.wav"]
    assert [*found.values()] == SAID
    assert sorted(source.columns["length"].tolist()) == [4000, 8000, 8000, 8000]


def write_kaldi(folder, names, place):
    folder.mkdir(parents=True)
    (folder / "wav.scp").write_text("".join(f"r{i} {place}/{i}.wav\n" for i in names))
    (folder / "text").write_text("".join(f"u{i} {SAID[i]}\n" for i in names))
    (folder / "utt2spk").write_text("".join(f"u{i} s{i % 2}\n" for i in names))
    (folder / "segments").write_text("".join(f"u{i} r{i} 0.5 {i % 2 - 1 or 0.75}\n" for i in names))


def test_folders_of_kaldi(sounds):
    for split, names in (("train", (0, 1)), ("dev", (2,)), ("test", (3,))):
        write_kaldi(sounds / "kaldi" / split, names, sounds)
    source = prepared(sounds, sounds / "kaldi", fractions=[80, 10, 10])
    assert source.columns["split"].tolist() == ["train", "train", "validation", "test"]
    assert source.values("text")["text"].tolist() == SAID
    assert source.values("speaker").tolist() == [0, 1, 0, 1]
    assert source.columns["length"].tolist() == [4000, 2000, 4000, 2000]  # -1: to the end


def test_a_folder_of_kaldi_without_segments(sounds):
    folder = sounds / "kaldi"
    folder.mkdir()
    (folder / "wav.scp").write_text("".join(f"u{i} {i}.wav\n" for i in range(4)))
    (folder / "text").write_text("".join(f"u{i} {SAID[i]}\n" for i in range(3)))
    source = prepared(sounds, folder, folder=sounds)
    assert [*texts(source).values()] == [*SAID[:3], None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.json", "{", "line 1 is not JSON"),
        ("list.json", '{"file": "a.wav"}', 'must be an object with "audio_filepath"'),
        ("list.json", '{"audio_filepath": "a", "offset": -1}', "offset is -1, not seconds"),
        ("list.json", "\n", "lists no sounds"),
        ("list.jsonl", '{"audio_filepath": "a.wav"}', 'has no "text": it has file'),
        ("wav.scp", "r sph2pipe a.sph |\n", "r is a command, and none is run"),
        ("wav.scp", "r a.wav\nr b.wav\n", "has r twice"),
        ("segments", "u r 0\n", "must be an utterance, a recording"),
        ("utt2spk", "u s\n", "has no wav.scp"),
    ],
)
def test_bad_lists(tmp_path, name, content, message):
    path = tmp_path / "list" / name
    path.parent.mkdir()
    if name == "segments":
        (path.parent / "wav.scp").write_text("r a.wav\n")
    path.write_text(content)
    manifest = path if name.startswith("list") else path.parent
    with pytest.raises(UserError, match=message):
        prepare("manifest", tmp_path / "data", name="mine", manifest=manifest)

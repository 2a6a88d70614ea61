"""Speech Commands 0.02: 105,829 recordings of 35 words at 16 kHz, by 2,618 speakers.

Warden 2018, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition"
(arXiv 1804.03209). The protocol has twelve labels: ten words; `_unknown_`, other words, with a
tenth as many clips; and `_silence_`, background noise, also with a tenth as many clips.
"""

import functools
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.audio.io import BadAudio, decode, duration
from gru_audio.data.datasets import archive as archives
from gru_audio.data.datasets.clips import SKIP, SPLITS, Clip, ClipBuilder
from gru_audio.data.datasets.download import download
from gru_audio.data.datasets.splitting import USUAL_NAMES
from gru_audio.data.datasets.tables import Row, read_table
from gru_audio.data.fields import classes
from gru_audio.paths import local_path
from gru_audio.settings import UserError

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
NOISE = "_background_noise_"  # the folder of long recordings from which silence is cut
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}

_SHARE = 0.1  # clips of unknown words, and of silence, per clip of the ten words
_RECORDING = re.compile(r"(?P<speaker>.+)_nohash_[0-9]+\.wav")
_LARGEST = 2**27 - 1  # the largest hash in the published split function


class SpeechCommands(ClipBuilder):
    """Speech Commands: twelve commands, 35 words and the speakers.

    `command` is one of the ten words, `_unknown_` or `_silence_`. Its value is unknown for the
    other words that are not drawn for `_unknown_`. The target `command` is the published task with
    twelve labels, the target `word` that with 35. Each speaker is in one split only.
    """

    VERSION = tfds.core.Version("0.0.2")
    fields = classes("command", "word", "speaker")
    homepage = "https://arxiv.org/abs/1804.03209"
    licence = "CC BY 4.0"

    def __init__(
        self,
        *,
        data_dir: Path | str,
        archive: Path | str | None = None,
        manifest: Path | str | None = None,
        seed: int = 0,
        sample_rate: int = 16000,
        on_bad_file: str = SKIP,
    ):
        """Prepares `archive` (or a folder of its files), or downloads the release.

        Args:
          manifest: a CSV (file, label, word, speaker, split) that lists the clips of an archive
            with another layout; nothing is drawn then.
          seed: the seed for drawing unknown words and silence.
        """
        self._rows = None
        if manifest:
            columns = ("file", "label", "word", "speaker", "split")
            self._rows = read_table(local_path(manifest), columns)
        super().__init__(
            data_dir=data_dir,
            sample_rate=sample_rate,
            on_bad_file=on_bad_file,
            manifest=archives.sha256(local_path(manifest)) if manifest else None,
            seed=seed,
        )
        self._archive, self._seed = archive, seed

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        archive = self._archive or download(URL, downloads / Path(URL).name)
        root = archives.unpack(archive, scratch)
        if self._rows is not None:
            return [_listed(row, root) for row in self._rows]
        recordings = _recordings(root)
        if not set(WORDS) <= {path.parent.name for path in recordings}:
            raise UserError(f"{archive} lacks some of the folders {', '.join(WORDS)}.")
        splits = {path.relative_to(root).as_posix(): official_split(path) for path in recordings}
        if _check_lists(splits, root):
            self.verified = f"the splits are those of {' and '.join(LISTS.values())}"
        unknown: set[str] = set()
        silence: list[Clip] = []
        for part, split in enumerate(SPLITS):
            rng = np.random.default_rng((self._seed, part))
            names = [name for name, assigned in splits.items() if assigned == split]
            others = [name for name in names if _word(name) not in WORDS]
            count = math.ceil(_SHARE * (len(names) - len(others)))
            unknown.update(others[i] for i in rng.permutation(len(others))[:count])
            silence += _silence(root, split, count, rng)
        spoken = [_spoken(root, name, split, name in unknown) for name, split in splits.items()]
        return [*spoken, *silence]


def official_split(recording: Path) -> str:
    """Returns the published split of SPEAKER_nohash_TAKE.wav, from a hash of the speaker."""
    speaker = re.sub(r"_nohash_.*$", "", recording.name)
    place = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (_LARGEST + 1)
    percent = place * (100 / _LARGEST)
    return "validation" if percent < 10 else "test" if percent < 20 else "train"


def _recordings(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*/*.wav") if _RECORDING.fullmatch(path.name))


def _check_lists(splits: Mapping[str, str], root: Path) -> bool:
    """Returns whether the archive lists its splits; refuses lists that contradict `splits`."""
    lists = {split: root / name for split, name in LISTS.items() if (root / name).is_file()}
    for split, path in lists.items():
        listed = set(path.read_text("utf-8", "backslashreplace").split())
        hashed = {name for name, part in splits.items() if part == split}
        if listed != hashed:
            first = min(listed ^ hashed)
            raise UserError(
                f"{path.name} and the recordings disagree about {first}: by the hash of its "
                f"speaker it is {splits.get(first, 'absent')}. Is the archive complete?"
            )
    return len(lists) == len(LISTS)


def _spoken(root: Path, name: str, split: str, unknown: bool) -> Clip:
    word = _word(name)
    command = word if word in WORDS else UNKNOWN if unknown else ""
    speaker = root.joinpath(name).name.partition("_nohash_")[0]
    return Clip(
        name=name,
        split=split,
        labels={"command": command, "word": word, "speaker": speaker},
        read=functools.partial(decode, root / name, name=name),
    )


def _silence(root: Path, split: str, count: int, rng: np.random.Generator) -> list[Clip]:
    """Draws clips of 1 s of background noise, each recording in proportion to its duration."""
    noises = sorted((root / NOISE).glob("*.wav"))
    try:
        seconds = np.array([duration(path) for path in noises])
    except BadAudio as error:
        raise UserError(f"Background noise cannot be used: {error}") from error
    if not noises or seconds.min() <= 1:
        raise UserError(f"The archive has no recordings of more than a second in {NOISE}/.")
    files = rng.choice(len(noises), count, p=seconds / seconds.sum())
    starts = rng.uniform(0, seconds[files] - 1)
    return [
        Clip(
            name=f"{SILENCE}/{split}_{i:04d}",
            split=split,
            labels={"command": SILENCE},
            read=functools.partial(decode, noises[file], start=start, end=start + 1),
        )
        for i, (file, start) in enumerate(zip(files, starts.tolist(), strict=True))
    ]


def _listed(row: Row, root: Path) -> Clip:
    """Returns the clip of a row of a manifest."""
    name, label, word = row["file"], row["label"], row["word"]
    if not (root / name).is_file():
        raise UserError(f"The manifest lists {name}, which is not in the archive.")
    if label in WORDS and word != label:
        raise UserError(f'The manifest contradicts itself: {name} is "{label}" with word "{word}".')
    split = USUAL_NAMES.get(row["split"].lower())
    if split is None:
        raise UserError(f'The manifest has {name} in "{row["split"]}", not in {", ".join(SPLITS)}.')
    return Clip(
        name=name,
        split=split,
        labels={
            "command": label if label in (*WORDS, UNKNOWN, SILENCE) else "",
            "word": "" if word in (UNKNOWN, SILENCE) else word,
            "speaker": row["speaker"],
        },
        read=functools.partial(decode, root / name, name=name),
    )


def _word(name: str) -> str:
    return name.partition("/")[0]

"""Digits that eSpeak NG synthesises."""

from pathlib import Path

import numpy as np
import pytest

from gru_audio.audio.io import decode
from gru_audio.data.datasets import espeak, tts_digits
from gru_audio.settings import UserError


@pytest.fixture(scope="module")
def few_voices():
    """Utterances of two voices, for speed."""
    pytest.importorskip("espeakng_loader", reason="eSpeak NG comes with the extra [demo]")
    return [
        tts_digits.utterance(f"{variant}_{accent}_{digit}", variant, accent, digit)
        for variant in ("f2", "Michael")
        for accent in tts_digits.ACCENTS
        for digit in range(10)
    ]


def test_words_are_heard_and_alike_in_every_process(tmp_path, few_voices):
    spoken = []
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        tts_digits._speak(few_voices, tmp_path / name)
        spoken.append({p.name: p.read_bytes() for p in sorted((tmp_path / name).iterdir())})
    assert spoken[0] == spoken[1]
    assert len(spoken[0]) == len(few_voices)
    assert len(set(spoken[0].values())) == len(few_voices)
    for content in spoken[0].values():
        audio = decode(content, None)
        level = np.abs(audio.samples.astype(int))
        assert 0.2 < len(audio.samples) / audio.sample_rate < 1.2
        assert level.max() > 3000
        quiet = level < 0.01 * level.max()
        assert not quiet[: audio.sample_rate // 20].all()


def test_the_voices_of_the_splits_differ_and_exist():
    loader = pytest.importorskip("espeakng_loader")
    voices = Path(loader.get_data_path(), "voices", "!v")
    variants = [variant for split in tts_digits.VARIANTS.values() for variant in split]
    assert len(set(variants)) == len(variants)
    assert all((voices / variant).is_file() for variant in variants)  # eSpeak ignores unknown ones


def test_rates_and_pitches_vary():
    drawn = [tts_digits.utterance(f"v_{d}", "v", "en", d) for d in range(10)] * 2
    assert len({u["rate"] for u in drawn}) > 5
    assert len({u["pitch"] for u in drawn}) > 5
    assert drawn[0] == drawn[10]
    for u in drawn:
        assert tts_digits.RATES[0] <= u["rate"] <= tts_digits.RATES[1]
        assert tts_digits.PITCHES[0] <= u["pitch"] <= tts_digits.PITCHES[1]


def test_a_voice_that_does_not_exist_is_an_error(tmp_path):
    pytest.importorskip("espeakng_loader")
    wrong = tts_digits.utterance("x", "f2", "en", 1) | {"voice": "nobody"}
    with pytest.raises(UserError, match="refuses voice nobody"):
        tts_digits._speak([wrong], tmp_path)
    with pytest.raises(RuntimeError, match="refuses voice"):
        espeak.Speaker().say("one", "nobody", 150, 50)

"""Ten digits spoken by eSpeak NG: a data set that needs no download.

eSpeak NG is GPL-licensed, so it is an optional dependency. It speaks every accent of English with
the timbre of any of its voice variants.
"""

import functools
import importlib.util
import itertools
import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from gru_audio.audio.io import decode
from gru_audio.data.datasets import espeak
from gru_audio.data.datasets.clips import SKIP, Clip, ClipBuilder
from gru_audio.data.fields import classes
from gru_audio.settings import UserError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# All of eSpeak's English but en-shaw, which is en-gb in another alphabet; "en" is British.
ACCENTS = (
    "en",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)

# Left out: whispers and croaks, robots, echoes, hurried voices that swallow half a word, and those
# that differ from another one by little more than their name.
VARIANTS = {
    "train": (
        *("Alex", "Alicia", "Andy", "Denis", "Gene", "Gene2", "Jacky", "Lee", "Mike", "Nguyen"),
        *("Reed", "Storm", "adam", "announcer", "aunty", "boris", "edward", "f1", "f3", "f5"),
        *("grandma", "iven3", "john", "klatt3", "klatt4", "m1", "m2", "m4", "m5", "m8", "max"),
        *("michel", "pablo", "rob", "sandro", "steph", "travis", "zac"),
    ),
    "validation": ("Hugo", "caleb", "f4", "m7", "shelby"),
    "test": ("Annie", "Mario", "Michael", "belinda", "david", "f2", "paul", "quincy", "victor"),
}

RATES = (120, 200)  # words a minute
PITCHES = (25, 75)  # of eSpeak's 0 to 99


class TtsDigits(ClipBuilder):
    """The words zero to nine by eSpeak NG, in eight accents and many voices.

    The splits share no voice; every voice speaks all accents, at a rate and a pitch that differ
    from clip to clip.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields = classes("digit", "voice")
    homepage = "https://github.com/espeak-ng/espeak-ng"

    def __init__(self, *, data_dir: Path | str, sample_rate: int = 16000, on_bad_file: str = SKIP):
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        if importlib.util.find_spec("espeakng_loader") is None:
            raise UserError(
                "tts_digits speaks with eSpeak NG, which is not installed. "
                "Run: pip install 'gru_audio[demo]'"
            )
        clips, utterances = [], []
        for split, variants in VARIANTS.items():
            for variant, accent, digit in itertools.product(variants, ACCENTS, range(10)):
                name = f"{variant}_{accent}_{digit}"
                utterances.append(utterance(name, variant, accent, digit))
                read = functools.partial(decode, scratch / f"{name}.wav", name=name)
                clips.append(Clip(name, split, {"digit": str(digit), "voice": variant}, read))
        _speak(utterances, scratch)
        return clips


def utterance(name: str, variant: str, accent: str, digit: int) -> dict[str, str | int]:
    """What `espeak` reads; rate and pitch hang on the name alone."""
    draw = zlib.crc32(name.encode())
    return {
        "name": name,
        "text": WORDS[digit],
        "voice": f"{accent}+{variant}",
        "rate": RATES[0] + draw % (RATES[1] - RATES[0] + 1),
        "pitch": PITCHES[0] + (draw >> 16) % (PITCHES[1] - PITCHES[0] + 1),
    }


def _speak(utterances: Sequence[dict[str, str | int]], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, espeak.__file__, str(folder)],
        input="\n".join(map(json.dumps, utterances)),
        text=True,
        capture_output=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UserError(f"eSpeak NG failed: {reason}")

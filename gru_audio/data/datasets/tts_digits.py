"""Spoken digits synthesised by eSpeak NG: a data set that needs no download.

eSpeak NG is GPL-licensed, so it is an optional dependency. It combines each English accent with
each of its voice variants.
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

# All English accents of eSpeak except en-shaw, which is en-gb in another alphabet; "en" is British.
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

# Left out: whispers, croaks, robots, echoes, fast voices that drop parts of words, and voices that
# are almost the same as another one.
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

RATES = (120, 200)  # words per minute
PITCHES = (25, 75)  # eSpeak's range is 0 to 99


class TtsDigits(ClipBuilder):
    """The words zero to nine from eSpeak NG, in eight accents and many voices.

    Each voice is in one split only and speaks all accents. Rate and pitch vary from clip to clip.
    """

    VERSION = tfds.core.Version("1.0.0")
    fields = classes("digit", "voice")
    homepage = "https://github.com/espeak-ng/espeak-ng"
    licence = "none stated, eSpeak NG makes the speech"

    def __init__(self, *, data_dir: Path | str, sample_rate: int = 16000, on_bad_file: str = SKIP):
        super().__init__(data_dir=data_dir, sample_rate=sample_rate, on_bad_file=on_bad_file)

    def clips(self, scratch: Path, downloads: Path) -> Sequence[Clip]:
        if importlib.util.find_spec("espeakng_loader") is None:
            raise UserError(
                "tts_digits needs eSpeak NG, which is not installed. "
                "Run: pip install 'gru-audio[demo]'"
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
    """Returns the input of `espeak` for one clip; the name sets rate and pitch."""
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

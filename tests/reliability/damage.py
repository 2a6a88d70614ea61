"""Sound files that are damaged in all the ways in which disks, networks and programs do it."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.signal
import soundfile

FORMS = [  # container, encoding, ending
    ("WAV", "PCM_U8", "wav"),
    ("WAV", "PCM_16", "wav"),
    ("WAV", "PCM_24", "wav"),
    ("WAV", "PCM_32", "wav"),
    ("WAV", "FLOAT", "wav"),
    ("WAVEX", "PCM_16", "wav"),
    ("FLAC", "PCM_16", "flac"),
    ("FLAC", "PCM_24", "flac"),
    ("OGG", "VORBIS", "ogg"),
    ("OGG", "OPUS", "ogg"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
]
RATES = [8000, 16000, 24000, 48000]  # those that all forms know
HEADER = 128  # bytes; about where a header ends

# The fields of a WAV's "fmt " chunk: offset in it, and bytes.
WAV_FIELDS = {
    "code": (8, 2),
    "channels": (10, 2),
    "rate": (12, 4),
    "byte_rate": (16, 4),
    "block_align": (20, 2),
    "bits": (22, 2),
}


@dataclass(frozen=True)
class Whole:
    """An undamaged file: `waveform` (frames, channels) is what was written."""

    form: str
    subtype: str
    ending: str
    rate: int
    waveform: np.ndarray
    data: bytes

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.rate


def wholes(rng: np.random.Generator, count: int) -> list[Whole]:
    """Files of all forms in turn, mono and stereo, at several rates."""
    files = []
    for i in range(count):
        form, subtype, ending = FORMS[i % len(FORMS)]
        rate = int(rng.choice(RATES))
        waveform = speech(rng, rng.uniform(0.2, 0.8), rate)
        waveform = np.stack([waveform] * int(rng.integers(1, 3)), axis=1)
        file = io.BytesIO()
        soundfile.write(file, waveform, rate, format=form, subtype=subtype)
        files.append(Whole(form, subtype, ending, rate, waveform, file.getvalue()))
    return files


def speech(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Pulses through resonances, in syllables, over a noise that is never silent: (frames,)."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
    voice = scipy.signal.sawtooth(2 * np.pi * np.cumsum(pitch) / rate)
    for formant in rng.uniform([300, 900, 2000], [800, 1800, 3000]):
        voice = scipy.signal.lfilter(*scipy.signal.iirpeak(formant, 4, rate), voice) + 0.3 * voice
    syllables = np.sin(np.pi * rng.uniform(3, 6) * time) ** 2
    sound = syllables * voice / np.abs(voice).max() + 0.05 * rng.standard_normal(len(time))
    return 0.5 * sound / np.abs(sound).max()


def damaged(rng: np.random.Generator, whole: Whole) -> tuple[str, bytes]:
    """A damage of a random kind that goes with the form: its name, and what is left."""
    kinds = dict(_ANY)
    if whole.form.startswith("WAV"):
        kinds |= {"wrong fields": _wrong_fields, "wrong size": _wrong_size}
    else:
        kinds["zeroed"] = _zeroed  # in a WAV these would be silence of its own
    kind = str(rng.choice(sorted(kinds)))
    return kind, kinds[kind](rng, whole.data)


def _cut(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: rng.integers(len(data))]


def _cut_in_header(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: rng.integers(HEADER)]


def _cut_at_the_end(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: -int(rng.integers(1, 16))]


def _flip_header(rng: np.random.Generator, data: bytes) -> bytes:
    return _flip(data, rng.integers(8 * HEADER, size=rng.integers(1, 5)))


def _flip_body(rng: np.random.Generator, data: bytes) -> bytes:
    return _flip(data, rng.integers(8 * HEADER, 8 * len(data), size=rng.integers(1, 20)))


def _flip(data: bytes, bits: np.ndarray) -> bytes:
    flipped = bytearray(data)
    for bit in bits:
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def _scribbled(rng: np.random.Generator, data: bytes) -> bytes:
    start, stop = _part(rng, data)
    return data[:start] + rng.bytes(stop - start) + data[stop:]


def _zeroed(rng: np.random.Generator, data: bytes) -> bytes:
    start, stop = _part(rng, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def _lost_part(rng: np.random.Generator, data: bytes) -> bytes:
    start, stop = _part(rng, data)
    return data[:start] + data[stop:]


def _doubled_part(rng: np.random.Generator, data: bytes) -> bytes:
    start, stop = _part(rng, data)
    return data[:stop] + data[start:]


def _part(rng: np.random.Generator, data: bytes) -> tuple[int, int]:
    start, stop = sorted(rng.integers(HEADER, len(data), size=2))
    return int(start), int(stop)


def _wrong_fields(rng: np.random.Generator, data: bytes) -> bytes:
    """One or two fields of the format set to what no file of this sound has there."""
    wrong = bytearray(data)
    chunk = data.index(b"fmt ")
    for name in rng.choice(list(WAV_FIELDS), size=rng.integers(1, 3), replace=False):
        offset, size = WAV_FIELDS[name]
        at = slice(chunk + offset, chunk + offset + size)
        values = [0, 1, 2, 3, 7, 1000, 2 ** (8 * size - 1), 2 ** (8 * size) - 1]
        values = [v for v in values if v != int.from_bytes(data[at], "little")]
        wrong[at] = int(rng.choice(values)).to_bytes(size, "little")
    return bytes(wrong)


def _wrong_size(rng: np.random.Generator, data: bytes) -> bytes:
    """The chunk of the samples, or all chunks, claim to be longer than they are."""
    wrong = bytearray(data)
    at = data.index(rng.choice([b"data", b"RIFF", b"fmt "])) + 4
    length = int.from_bytes(data[at : at + 4], "little")
    longer = [length + 2, 2 * length, 2**31, 2**32 - 2]
    wrong[at : at + 4] = int(rng.choice(longer)).to_bytes(4, "little")
    return bytes(wrong)


def _nothing(rng: np.random.Generator, data: bytes) -> bytes:
    return b""


def _text(rng: np.random.Generator, data: bytes) -> bytes:
    return b"recorded on a windy day, see the notes\n" * int(rng.integers(1, 99))


def _magic_alone(rng: np.random.Generator, data: bytes) -> bytes:
    return data[:4] + rng.bytes(int(rng.integers(2000)))


_ANY: dict[str, Callable[[np.random.Generator, bytes], bytes]] = {
    "cut": _cut,
    "cut in the header": _cut_in_header,
    "cut at the end": _cut_at_the_end,
    "bits of the header flipped": _flip_header,
    "bits of the body flipped": _flip_body,
    "scribbled over": _scribbled,
    "part lost": _lost_part,
    "part doubled": _doubled_part,
    "empty": _nothing,
    "text": _text,
    "magic alone": _magic_alone,
}


def collection(seed: int, count: int) -> Iterator[tuple[str, bytes, Whole]]:
    """So many damaged files: name, content, and what they were."""
    rng = np.random.default_rng(seed)
    endings = sorted({ending for *_, ending in FORMS} | {"raw", "aiff"})
    for i, whole in enumerate(wholes(rng, count)):
        kind, data = damaged(rng, whole)
        ending = whole.ending if rng.random() < 0.9 else str(rng.choice(endings))
        yield f"{i}_{whole.subtype}_{kind.replace(' ', '_')}.{ending}".lower(), data, whole

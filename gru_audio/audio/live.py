"""Sound that is still arriving: from a microphone, a file that grows, or a pipe."""

import functools
import queue
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from gru_audio.audio.containers import CONTRADICTORY, Unusable
from gru_audio.audio.containers.wav import FLOAT, PCM, Format, parse_format
from gru_audio.audio.rates import check_rate
from gru_audio.settings import UserError

_BLOCK_SECONDS = 0.05  # read at a time
_POLL_SECONDS = 0.02  # between looks at a file that has not grown

_DTYPES = {(PCM, 16): "<i2", (PCM, 32): "<i4", (FLOAT, 32): "<f4"}  # by format and bits
_LONGEST_CHUNK = 1 << 24  # bytes that are read before the samples, as of a picture
_NO_WAV = "it is no WAV file"


@dataclass(frozen=True)
class Sound:
    """Sound as it comes: `blocks` float32 (frames, channels) in [-1, 1), at `rate` Hz."""

    rate: int
    blocks: Iterator[np.ndarray]


def devices() -> str:
    """The sound devices there are, one a line.

    Raises:
      UserError: sounddevice or PortAudio is missing.
    """
    return str(_sounddevice().query_devices()) or "There is no sound device."


def microphone(device: str | None) -> Sound:
    """What a sound device hears, on one channel at the device's own rate, until stopped.

    Args:
      device: its number or a part of its name as `devices` shows them; None: the default.

    Raises:
      UserError: there is no such device, or no way to ask for one.
    """
    sounddevice = _sounddevice()
    chosen = int(device) if device and device.isdecimal() else device
    try:
        rate = round(sounddevice.query_devices(chosen, "input")["default_samplerate"])
        sounddevice.check_input_settings(chosen, channels=1, dtype="float32", samplerate=rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(
            f"No microphone ({error}): --device=list shows the devices; --follow reads a file or "
            "a pipe instead."
        ) from error

    def blocks() -> Iterator[np.ndarray]:
        arrived: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()

        def keep(block: np.ndarray, frames: int, times: object, status: object) -> None:
            if status:
                print(f"microphone: {status}", file=sys.stderr)
            arrived.put(block.copy())

        with sounddevice.InputStream(
            rate, round(_BLOCK_SECONDS * rate), chosen, channels=1, dtype="float32", callback=keep
        ):
            while True:
                yield arrived.get()

    return Sound(rate, blocks())


def growing_wav(path: Path) -> Sound:
    """A WAV file from its beginning, and what is appended to it, until stopped.

    The length in its header is ignored: recorders write it when they end.

    Raises:
      UserError: it is not there, is no WAV, or its header is wrong or names samples that are not
        16 or 32 bits wide.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be followed: {error.strerror}.") from error
    read = functools.partial(_wait_for, file)
    try:
        form = _read_format(read)
    except Unusable as error:
        raise UserError(f"{path} cannot be followed: {error.reason}.") from error
    if (form.code, form.bits) not in _DTYPES:
        raise UserError(
            f"{path} cannot be followed: record samples of 16 or 32 bits (16 bits are enough)."
        )
    dtype = np.dtype(_DTYPES[form.code, form.bits])
    return Sound(form.rate, _pcm(read, form.rate, form.channels, dtype))


def _read_format(read: Callable[[int], bytes]) -> Format:
    """Reads a WAV up to its samples."""
    magic = read(12)
    if magic[:4] not in (b"RIFF", b"RF64", b"BW64") or magic[8:] != b"WAVE":
        raise Unusable(_NO_WAV)
    form = None
    while (header := read(8))[:4] != b"data":
        size = int.from_bytes(header[4:], "little")
        if size > _LONGEST_CHUNK or not all(0x20 <= byte < 0x7F for byte in header[:4]):
            raise Unusable(CONTRADICTORY)
        body = read(size + size % 2)  # chunks begin at even places
        if header[:4] == b"fmt ":
            form = parse_format(body[:size])
    if form is None:
        raise Unusable(CONTRADICTORY)
    return form


def raw_pcm(file: BinaryIO, rate: float) -> Sound:
    """Signed 16-bit little-endian samples of one channel without a header, to the file's end.

    Args:
      file: what they are read from.
      rate: in Hz.

    Raises:
      UserError: the rate is not in Hz.
    """
    check_rate(rate)
    return Sound(int(rate), _pcm(file.read, int(rate), 1, np.dtype("<i2")))


def _pcm(
    read: Callable[[int], bytes], rate: int, channels: int, dtype: np.dtype
) -> Iterator[np.ndarray]:
    """Blocks of float32 (frames, channels); `read` gives fewer bytes than asked for at the end."""
    frame = channels * dtype.itemsize
    scale = np.float32(1) if dtype.kind == "f" else np.float32(2) ** (1 - 8 * dtype.itemsize)
    while data := read(max(1, round(_BLOCK_SECONDS * rate)) * frame):
        whole = data[: len(data) // frame * frame]
        yield np.frombuffer(whole, dtype).reshape(-1, channels).astype(np.float32) * scale


def _wait_for(file: BinaryIO, count: int) -> bytes:
    """The next `count` bytes of a file that grows, however long they take."""
    data = file.read(count)
    while len(data) < count:
        time.sleep(_POLL_SECONDS)
        data += file.read(count - len(data))
    return data


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise UserError(
            'The microphone needs the package sounddevice: pip install "gru_audio[live]".'
        ) from error
    except OSError as error:  # it is there, the library it calls is not
        raise UserError(
            "The microphone needs PortAudio (Debian: apt install libportaudio2)."
        ) from error
    return sounddevice

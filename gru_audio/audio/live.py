"""Sound in blocks: live from a microphone, a growing file or a pipe, and cut into windows."""

import functools
import queue
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from gru_audio.audio.containers.stream import CONTRADICTORY, Unusable, is_chunk_name
from gru_audio.audio.containers.wav import FLOAT, PCM, Format, parse_format
from gru_audio.audio.io import check_rate
from gru_audio.settings import UserError

_BLOCK_SECONDS = 0.05  # length of a block
_POLL_SECONDS = 0.02  # wait before reading again from a file that has not grown

_DTYPES = {(PCM, 16): "<i2", (PCM, 32): "<i4", (FLOAT, 32): "<f4"}  # by format code and bits
_LONGEST_CHUNK = 1 << 24  # bytes of a chunk before the samples, such as a picture
_NO_WAV = "it is not a WAV file"


@dataclass(frozen=True)
class Sound:
    """Live sound: `blocks` are float32 (frames, channels) in [-1, 1), at `rate` Hz."""

    rate: int
    blocks: Iterator[np.ndarray]


def devices() -> str:
    """Returns the list of sound devices, one per line.

    Raises:
      UserError: sounddevice or PortAudio is missing.
    """
    return str(_sounddevice().query_devices()) or "There is no sound device."


def microphone(device: str | None) -> Sound:
    """Records one channel of a sound device at its default rate, without end.

    Args:
      device: number or part of the name, as in `devices`; None: the default device.

    Raises:
      UserError: there is no such device, or sounddevice or PortAudio is missing.
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
    """Reads a WAV file while another program appends to it, without end.

    The length in the header is ignored, because recorders write it when they end.

    Raises:
      UserError: the file does not exist, is not a valid WAV, or its samples do not have 16 or 32
        bits.
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
    """Reads a WAV up to its first sample."""
    magic = read(12)
    if magic[:4] not in (b"RIFF", b"RF64", b"BW64") or magic[8:] != b"WAVE":
        raise Unusable(_NO_WAV)
    form = None
    while (header := read(8))[:4] != b"data":
        size = int.from_bytes(header[4:], "little")
        if size > _LONGEST_CHUNK or not is_chunk_name(header[:4]):
            raise Unusable(CONTRADICTORY)
        body = read(size + size % 2)  # chunks begin at even positions
        if header[:4] == b"fmt ":
            form = parse_format(body[:size])
    if form is None:
        raise Unusable(CONTRADICTORY)
    return form


def raw_pcm(file: BinaryIO, rate: float) -> Sound:
    """Reads signed 16-bit little-endian mono samples without a header, to the end of the file.

    Args:
      file: a file or pipe.
      rate: in Hz.

    Raises:
      UserError: the rate is out of range, for example in kHz.
    """
    check_rate(rate)
    return Sound(int(rate), _pcm(file.read, int(rate), 1, np.dtype("<i2")))


def _pcm(
    read: Callable[[int], bytes], rate: int, channels: int, dtype: np.dtype
) -> Iterator[np.ndarray]:
    """Yields float32 blocks (frames, channels) until `read` returns no more bytes."""
    frame = channels * dtype.itemsize
    scale = np.float32(1) if dtype.kind == "f" else np.float32(2) ** (1 - 8 * dtype.itemsize)
    while data := read(max(1, round(_BLOCK_SECONDS * rate)) * frame):
        whole = data[: len(data) // frame * frame]
        yield np.frombuffer(whole, dtype).reshape(-1, channels).astype(np.float32) * scale


def _wait_for(file: BinaryIO, count: int) -> bytes:
    """Returns the next `count` bytes of a growing file; waits until they exist."""
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
            'The microphone needs the package sounddevice: pip install "gru-audio[live]".'
        ) from error
    except OSError as error:  # the package is installed, but the library PortAudio is not
        raise UserError(
            "The microphone needs PortAudio (Debian: apt install libportaudio2)."
        ) from error
    return sounddevice


@dataclass(frozen=True)
class Window:
    """A part of a recording: `samples` int16 (n,); the first is sample `start` of the recording."""

    start: int
    samples: np.ndarray

    @property
    def end(self) -> int:
        """Position after the last sample."""
        return self.start + len(self.samples)


def cut(blocks: Iterable[np.ndarray], size: int, hop: int) -> Iterator[Window]:
    """Cuts consecutive blocks of sound into overlapping windows.

    The last window ends at the end of the sound, so its overlap may be larger. Sound shorter than a
    window gives one window. The function stores at most one window and one block.

    Args:
      blocks: int16 (n,) each, in order, of any length.
      size: samples of a window, at least 1.
      hop: samples between the starts of two windows, 1 to `size`.
    """
    buffer, start, last = np.empty(0, np.int16), 0, None
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) >= size:
            last = Window(start, buffer[:size].copy())
            yield last
            buffer, start = buffer[hop:], start + hop
    if last is None:
        if len(buffer):
            yield Window(0, buffer)
        return
    rest = buffer[size - hop :]  # samples after the last window
    if len(rest):
        yield Window(last.start + len(rest), np.concatenate([last.samples, rest])[-size:])

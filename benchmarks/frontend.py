"""The log-mel frontend by FFT and by matrix product, against JAX, PyTorch and SciPy.

The input is 64 clips of one second at 16 kHz. SciPy runs on one core of the host, and all others
run on the device. "error" is the largest difference of a feature from SciPy in float64.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from benchmarks.harness import Contestant, Options, Row, compete, turn
from gru_audio.audio.frontends.log_mel import LogMel, hann, mel_bands
from gru_audio.audio.normalise import Normalisation
from gru_audio.settings import make

SAMPLE_RATE, CLIPS = 16000, 64
PEER = "jax.scipy.signal.stft"


def measure(options: Options, clips: int = CLIPS) -> Iterator[Row]:
    """Times the contestants.

    Args:
      options: options of the command line. The frontend of the config is used as "log_mel".
      clips: batch size.
    """
    assert options.config
    log_mel = make(LogMel, options.config.frontend, sample_rate=SAMPLE_RATE)
    waveform = np.random.default_rng(0).normal(0, 0.1, (clips, SAMPLE_RATE)).astype(np.float32)
    truth = _scipy(log_mel, waveform.astype(np.float64))

    def contestant(make: Callable[[], Callable[[], Any]]) -> Callable[[], Contestant]:
        def ready() -> Contestant:
            run = make()
            error = float(np.abs(np.asarray(run()) - truth).max())
            return Contestant(turn(run), about={"error": error})

        return ready

    makers = {name: contestant(make) for name, make in _runs(log_mel, waveform).items()}
    about = ", ".join(f"{k} {getattr(log_mel, k)}" for k in ("fft_size", "window", "hop", "mels"))
    for row in compete(makers, options.seconds, [PEER]):
        yield {"table": f"Log-mel of {clips} s at 16 kHz: {about}", **row}


def _runs(log_mel: LogMel, waveform: np.ndarray) -> dict[str, Callable[[], Callable[[], Any]]]:
    on_device = jnp.asarray(waveform)
    lengths = jnp.full(len(waveform), waveform.shape[1])

    def compiled(function: Callable[[jax.Array], jax.Array]) -> Callable[[], Any]:
        call = jax.jit(function).lower(on_device).compile()
        return lambda: jax.block_until_ready(call(on_device))

    def ours(spectrum: str) -> Callable[[], Any]:
        frontend = dataclasses.replace(log_mel, spectrum=spectrum)
        return compiled(lambda waveform: frontend(waveform, lengths)[0])

    runs: dict[str, Callable[[], Callable[[], Any]]] = {
        "ours, fft": lambda: ours("fft"),
        "ours, matmul": lambda: ours("matmul"),
        PEER: lambda: compiled(lambda waveform: _by_jax(log_mel, waveform)),
        "SciPy": lambda: lambda: _scipy(log_mel, waveform),
    }
    if importlib.util.find_spec("torch"):
        runs["PyTorch"] = lambda: _pytorch(log_mel, waveform)
    return runs


def _by_jax(log_mel: LogMel, waveform: jax.Array) -> jax.Array:
    window = np.zeros(log_mel.fft_size, np.float32)
    start = (log_mel.fft_size - log_mel.window) // 2
    window[start : start + log_mel.window] = hann(log_mel.window)
    _, _, spectrum = jax.scipy.signal.stft(
        waveform,
        window=window,  # type: ignore[arg-type]  # arrays are allowed
        nperseg=log_mel.fft_size,
        noverlap=log_mel.fft_size - log_mel.hop,
        boundary=None,
        padded=False,
    )
    power = jnp.abs(spectrum * window.sum()) ** 2  # stft divides by the sum of the window
    mel = jnp.swapaxes(power, 1, 2) @ _bands(log_mel).T.astype(np.float32)
    return jnp.log(jnp.maximum(mel, log_mel.floor))


def _scipy(log_mel: LogMel, waveform: np.ndarray) -> np.ndarray:
    """Computes log-mel features in the type of the waveform."""
    start = (log_mel.fft_size - log_mel.window) // 2
    frames = np.lib.stride_tricks.sliding_window_view(waveform[:, start:], log_mel.window, axis=1)
    count = log_mel.frames(waveform.shape[1])
    windows = frames[:, :: log_mel.hop][:, :count] * hann(log_mel.window).astype(waveform.dtype)
    spectrum = scipy.fft.rfft(windows, log_mel.fft_size)
    mel = (spectrum.real**2 + spectrum.imag**2) @ _bands(log_mel).T.astype(waveform.dtype)
    return np.log(np.maximum(mel, log_mel.floor))


def _pytorch(log_mel: LogMel, waveform: np.ndarray) -> Callable[[], Any]:
    import torch

    from benchmarks.pytorch import DEVICE, Frontend

    unchanged = Normalisation(jnp.zeros(log_mel.mels), jnp.ones(log_mel.mels))
    frontend = Frontend(log_mel, unchanged).to(DEVICE)
    audio = torch.tensor(waveform * 32768, device=DEVICE)

    def run() -> np.ndarray:
        with torch.no_grad():
            return frontend(audio).cpu().numpy()

    return run


def _bands(log_mel: LogMel) -> np.ndarray:
    return mel_bands(
        log_mel.sample_rate, log_mel.fft_size, log_mel.mels, log_mel.f_min, log_mel.highest
    )

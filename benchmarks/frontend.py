"""The log-mel frontend: both of our ways to the spectrum, against JAX, PyTorch and SciPy.

That of a config, on 64 clips of one second at 16 kHz. All but SciPy, which runs on one core of the
host, run on the device. "error" is the greatest difference of a feature from SciPy's in float64.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks.setting import Row, say
from benchmarks.timing import (
    cores,
    host,
    interleave,
    show_host,
    shown,
    speed,
    spread,
    turn,
)
from gru_audio.audio.frontends.log_mel import LogMel, hann
from gru_audio.audio.frontends.mel import mel_bands
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import check

SAMPLE_RATE, CLIPS = 16000, 64
BASELINE = "jax.scipy.signal.stft"


def measure(config: ConfigDict, seconds: float, clips: int = CLIPS) -> dict[str, Any]:
    """Runs the benchmark. Numbers are in the unit that their names tell.

    Args:
      config: an experiment's, whose frontend it is; taken as "log_mel" whatever it names.
      seconds: to spend on all contestants together, beside compilation.
      clips: of the batch.
    """
    check(config)
    log_mel = LogMel.from_config(config.frontend, SAMPLE_RATE)
    waveform = np.random.default_rng(0).normal(0, 0.1, (clips, SAMPLE_RATE)).astype(np.float32)
    runs = _contestants(log_mel, waveform)
    truth = _scipy(log_mel, waveform.astype(np.float64))
    say("frontends")
    errors = {name: float(np.abs(np.asarray(run()) - truth).max()) for name, run in runs.items()}
    times = interleave({name: turn(run) for name, run in runs.items()}, seconds)
    rows: list[Row] = [
        {
            "contestant": name,
            "ms": spread(taken * 1e3),
            "speed": speed(taken, times[BASELINE]),
            "error": errors[name],
        }
        for name, taken in times.items()
    ]
    about = {name: getattr(log_mel, name) for name in ("n_fft", "window", "hop", "mels")}
    return {"benchmark": "frontend", "host": host(), "clips": clips, **about, "rows": rows}


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a table of what `measure` returns: medians, with quartiles in brackets."""
    show_host(result["host"], console)
    table = Table(
        title="Log-mel of {clips} s at 16 kHz: n_fft {n_fft}, window {window}, hop {hop}, "
        "{mels} bands".format(**result)
    )
    for column in ("contestant", "ms", f"/ {BASELINE}", "error"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for row in result["rows"]:
        table.add_row(
            row["contestant"], shown(row["ms"]), shown(row["speed"]), f"{row['error']:.0e}"
        )
    console.print(table)


def _contestants(log_mel: LogMel, waveform: np.ndarray) -> dict[str, Callable[[], Any]]:
    on_device = jnp.asarray(waveform)
    lengths = jnp.full(len(waveform), waveform.shape[1])

    def compiled(function: Callable[[jax.Array], jax.Array]) -> Callable[[], Any]:
        call = jax.jit(function).lower(on_device).compile()
        return lambda: jax.block_until_ready(call(on_device))

    def ours(spectrum: str) -> Callable[[], Any]:
        frontend = dataclasses.replace(log_mel, spectrum=spectrum)
        return compiled(lambda waveform: frontend(waveform, lengths)[0])

    runs = {f"ours, {spectrum}": ours(spectrum) for spectrum in ("fft", "matmul")}
    runs[BASELINE] = compiled(lambda waveform: _by_jax(log_mel, waveform))
    runs["SciPy"] = lambda: _scipy(log_mel, waveform)
    if importlib.util.find_spec("torch"):
        runs["PyTorch"] = _pytorch(log_mel, waveform)
    return runs


def _by_jax(log_mel: LogMel, waveform: jax.Array) -> jax.Array:
    window = np.zeros(log_mel.n_fft, np.float32)
    start = (log_mel.n_fft - log_mel.window) // 2
    window[start : start + log_mel.window] = hann(log_mel.window)
    _, _, spectrum = jax.scipy.signal.stft(
        waveform,
        window=window,  # type: ignore[arg-type]  # an array will do, says its text
        nperseg=log_mel.n_fft,
        noverlap=log_mel.n_fft - log_mel.hop,
        boundary=None,
        padded=False,
    )
    power = jnp.abs(spectrum * window.sum()) ** 2  # it divides by the window's sum
    mel = jnp.swapaxes(power, 1, 2) @ _bands(log_mel).T.astype(np.float32)
    return jnp.log(jnp.maximum(mel, log_mel.floor))


def _scipy(log_mel: LogMel, waveform: np.ndarray) -> np.ndarray:
    """In the type of the waveform."""
    start = (log_mel.n_fft - log_mel.window) // 2
    frames = np.lib.stride_tricks.sliding_window_view(waveform[:, start:], log_mel.window, axis=1)
    count = log_mel.frames(waveform.shape[1])
    windows = frames[:, :: log_mel.hop][:, :count] * hann(log_mel.window).astype(waveform.dtype)
    spectrum = scipy.fft.rfft(windows, log_mel.n_fft)
    mel = (spectrum.real**2 + spectrum.imag**2) @ _bands(log_mel).T.astype(waveform.dtype)
    return np.log(np.maximum(mel, log_mel.floor))


def _pytorch(log_mel: LogMel, waveform: np.ndarray) -> Callable[[], Any]:
    import torch

    from benchmarks.pytorch import DEVICE, Frontend

    torch.set_num_threads(cores())
    unchanged = Normalisation(jnp.zeros(log_mel.mels), jnp.ones(log_mel.mels))
    frontend = Frontend(log_mel, unchanged).to(DEVICE)
    audio = torch.tensor(waveform * 32768, device=DEVICE)

    def run() -> np.ndarray:
        with torch.no_grad():
            return frontend(audio).cpu().numpy()

    return run


def _bands(log_mel: LogMel) -> np.ndarray:
    return mel_bands(log_mel.sample_rate, log_mel.n_fft, log_mel.mels, log_mel.f_min, log_mel.f_max)

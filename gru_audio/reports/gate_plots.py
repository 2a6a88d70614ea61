"""Excerpts of test examples (sound and spectrogram) and the gates of a trained model on them.

Only this part of a report reads the data set and a trained model. If they are missing, the report
has no excerpts or no gates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from gru_audio.audio.frontends import LogMel
from gru_audio.audio.frontends.log_mel import mel
from gru_audio.data import index
from gru_audio.data.signal import Signal
from gru_audio.data.source import Source
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.results import Run, tested_source
from gru_audio.settings import UserError
from gru_audio.sweeps.workdir import Workdir

_SECONDS = 5.0  # only the middle of a longer sound is shown
_FRAMES = 500  # only the middle of a longer sequence of frames is shown
_GATES = ("update", "reset", "forget", "input", "output")  # in this order; no candidates
_GRUS = ("gru", "gru_reset_before")
_BANDS, _LOWEST_HZ = 64, 20.0  # of a spectrogram
_NBSP = "\N{NO-BREAK SPACE}"
_SILENT = 0.25  # share of a spectrogram that is left blank


@dataclass(frozen=True)
class LayerGates:
    """The gates of one layer on an excerpt.

    Attributes:
        gates: name -> float (units, frames) in [0, 1]; units with the longest memory first.
        start, duration: start and duration of the frames, in steps of the excerpt.
    """

    gates: Mapping[str, np.ndarray]
    start: float
    duration: float


@dataclass(frozen=True)
class Excerpt:
    """An example, or the middle of a long one.

    Attributes:
        signal: type of the sequence.
        steps: the sequence as stored, (n,) samples or (n, features) frames.
        start: where the excerpt begins in the example, in steps.
        length: length of the whole example, in steps.
        picture: (bands, columns) in [0, 1], the highest band first: the log-mel spectrogram of a
            sound, else the frames.
        rows: ticks of the vertical axis, as text and height in percent.
        layer_gates: the gates; None if there are none.
    """

    signal: Signal
    steps: np.ndarray
    start: int
    length: int
    picture: np.ndarray
    rows: tuple[tuple[str, float], ...]
    layer_gates: LayerGates | None = None


@dataclass(frozen=True)
class GateModel:
    """The model whose gates are shown.

    Attributes:
        variant, run: names of the variant and the run.
        layer: path of the layer in the model.
        slowest, fastest: largest and smallest time constant of a unit, in steps of the signal.
    """

    variant: str
    run: str
    layer: str
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Excerpts:
    """Excerpts of test examples.

    Attributes:
        excerpts: example id -> excerpt.
        gate_model: the model of the gates; None without gates.
        missing: why there are no excerpts or no gates, in one line; "" if there are.
        clips: example id -> name of the example in the data set, such as a file name.
    """

    excerpts: Mapping[int, Excerpt]
    gate_model: GateModel | None = None
    missing: str = ""
    clips: Mapping[int, str] = field(default_factory=dict)


def read_excerpts(
    workdir: epath.PathLike, comparison: Comparison, examples: Sequence[int]
) -> Excerpts:
    """Reads test examples, and runs a trained model on them.

    GRU variants are preferred. Does not raise if data set or model is missing: see
    `Excerpts.missing`.

    Args:
      workdir: the sweep's workdir.
      comparison: the comparison of the variants.
      examples: ids of the examples.
    """
    if not examples:
        return Excerpts({})
    try:
        source = tested_source(comparison.results, comparison.variants[0].runs[0])
        signals = source.signals(examples)
        excerpts = [excerpt_of(source.signal, each) for each in signals]
    except (UserError, OSError) as error:
        return Excerpts({}, missing=f"The examples cannot be shown: {error}")
    clips = {example: str(source.columns[index.CLIP][example]) for example in examples}
    shown = Excerpts(dict(zip(examples, excerpts, strict=True)), clips=clips)
    if comparison.results.task.of_samples:  # gates of every sample are too many to see
        return shown
    try:
        gate_model, of_clips = _read_gates(Workdir(workdir), comparison, source, excerpts)
    except UserError as error:
        return replace(shown, missing=f"The gates cannot be shown: {error}")
    read = [replace(e, layer_gates=r) for e, r in zip(excerpts, of_clips, strict=True)]
    return replace(shown, excerpts=dict(zip(examples, read, strict=True)), gate_model=gate_model)


def excerpt_of(signal: Signal, clip: np.ndarray) -> Excerpt:
    """Returns the excerpt of a signal (n,) or (n, features), without gates."""
    longest = round(_SECONDS * signal.rate) if signal.is_sound else _FRAMES
    start = max(0, len(clip) - longest) // 2
    steps = clip[start : start + longest]
    values = signal.floats(steps)
    picture = _log_mel(values, signal.rate) if signal.is_sound else values.T
    least, most = np.quantile(picture, _SILENT if signal.is_sound else 0), picture.max()
    picture = np.clip((picture - least) / (most - least or 1), 0, 1)
    rows = _frequencies(signal.rate) if signal.is_sound else _numbers(len(picture))
    return Excerpt(signal, steps, start, len(clip), picture[::-1], rows)


def _frequencies(rate: int) -> tuple[tuple[str, float], ...]:
    """Returns ticks in Hz, with their heights in the spectrogram in percent."""
    low, high = (float(mel(hz)) for hz in (_LOWEST_HZ, rate / 2))
    # The centres of the bands divide the range in mel into equal parts; each band is a row.
    height = [
        (hz, ((float(mel(hz)) - low) / (high - low) * (_BANDS + 1) - 0.5) / _BANDS)
        for hz in (500, 1000, 2000, 4000, 8000, 16000)
    ]
    shown = [(f"{hz:,}", 100 * at) for hz, at in height if 0.05 < at < 0.9]
    return (*shown[-3:-1], (f"{shown[-1][0]}{_NBSP}Hz", shown[-1][1])) if shown else ()


def _numbers(values: int) -> tuple[tuple[str, float], ...]:
    """Returns ticks for the first and the last value of a frame; () if there is one value."""
    return (("1", 0.0), (f"{values}", 100.0)) if values > 1 else ()


def _log_mel(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Returns the natural logarithm of the power in mel bands (bands, columns) every 10 ms.

    The resolution does not depend on the models' features. Columns are centred on their times, so
    that they align with the waveform.
    """
    window = round(0.025 * rate)
    n_fft = 1 << (4 * window - 1).bit_length()  # fine enough that no band is empty
    bands: dict[str, Any] = {"mels": _BANDS, "f_min": _LOWEST_HZ, "f_max": rate / 2}
    frontend = LogMel(rate, n_fft=n_fft, floor=1e-10, **bands)
    padded = np.pad(waveform, n_fft // 2)
    features, _ = frontend(jnp.asarray(padded)[None], jnp.array([len(padded)]))
    return np.asarray(features[0]).T


def _read_gates(
    workdir: Workdir, comparison: Comparison, source: Source, excerpts: Sequence[Excerpt]
) -> tuple[GateModel, list[LayerGates]]:
    """Returns the first model with gates, and its gates on each excerpt.

    GRUs come first, then the other variants, each from the best to the worst.

    Raises:
      UserError: no variant has a trained model with gates; the message is the first reason.
    """
    reasons = []
    for variant in sorted(comparison.variants, key=lambda variant: not _is_gru(variant.runs[0])):
        run = variant.runs[0].name
        try:
            trained = TrainedModel.load(workdir.model(run))
            if trained.signal != source.signal:
                raise UserError(f"{run} was trained on signals of another type than {source.name}.")
            layer, gates = _gates(trained, excerpts)
        except UserError as error:
            reasons.append(error)
            continue
        memory = _time_constants(gates, trained.config.model.cell)
        stride, start = _frame_times(trained)
        of_clips = [_layer_gates(each, np.argsort(-memory), stride, start) for each in gates]
        slowest, fastest = (float(m) * stride for m in (memory.max(), memory.min()))
        return GateModel(variant.name, run, layer, slowest, fastest), of_clips
    raise reasons[0]


def _is_gru(run: Run) -> bool:
    return run.config.get("model.cell") in _GRUS


def _gates(
    trained: TrainedModel, excerpts: Sequence[Excerpt]
) -> tuple[str, list[dict[str, np.ndarray]]]:
    """Returns the last forward layer, and its gates (frames, units) on each excerpt.

    Raises:
      UserError: the cell has no gates.
    """
    found = trained.gates([excerpt.steps for excerpt in excerpts])
    forward = [name for name in found[0] if "forward" in name]
    layer = max(forward, key=lambda name: int(name.rpartition("_")[2]))
    names = [name for name in _GATES if name in found[0][layer]]
    if not names:
        raise UserError(f'Cells of "{trained.config.model.cell}" have no gates.')
    return layer, [{name: each[layer][name] for name in names} for each in found]


def _time_constants(gates: Sequence[Mapping[str, np.ndarray]], cell: str) -> np.ndarray:
    """Returns each unit's time constant in frames: its state decays to 1/e in that time.

    The decay per frame is the geometric mean of the gate that keeps the state.
    """
    kept = np.concatenate([each["forget" if "forget" in each else "update"] for each in gates])
    if cell == "min_gru":  # its update gate weights the new value
        kept = 1 - kept
    return -1 / np.log(np.clip(kept, 1e-6, 1 - 1e-6)).mean(axis=0)


def _frame_times(trained: TrainedModel) -> tuple[int, float]:
    """Returns the stride of the recurrent layers' frames, and the start of the first, in steps.

    A frame covers the steps around the centre of its window.
    """
    first, step = trained.program().frame_times
    rate = trained.signal.rate
    return round(step * rate), (first - step / 2) * rate


def _layer_gates(
    gates: Mapping[str, np.ndarray], order: np.ndarray, stride: int, start: float
) -> LayerGates:
    frames = len(next(iter(gates.values())))
    return LayerGates({name: g[:, order].T for name, g in gates.items()}, start, frames * stride)

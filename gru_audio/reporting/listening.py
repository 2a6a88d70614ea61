"""What some test examples sound and look like, and what the gates of a trained model do on them.

All else in a report rests on the workdir's small files. Here alone the data set and a checkpoint
are read; where they are not at hand the report goes without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from etils import epath

from gru_audio.audio.frontends import LogMel
from gru_audio.config import UserError
from gru_audio.data.signal import Signal
from gru_audio.data.source import Source, open_source
from gru_audio.reporting.comparison import Comparison
from gru_audio.reporting.results import Results, Run
from gru_audio.sweeping.workdir import Workdir
from gru_audio.training.trained import Trained

_SECONDS = 5.0  # of a longer sound the middle is shown
_FRAMES = 500  # likewise
_GATES = ("update", "reset", "forget", "input", "output")  # in this order; no candidates
_GRUS = ("gru", "gru_reset_before")
_SILENT = 0.25  # of a spectrogram, that is left blank


@dataclass(frozen=True)
class Reading:
    """The gates of one layer while it reads an excerpt.

    Attributes:
        gates: name -> (units, frames) in [0, 1]; units with the longest memory first.
        start, duration: of the frames, in the excerpt's steps.
    """

    gates: Mapping[str, np.ndarray]
    start: float
    duration: float


@dataclass(frozen=True)
class Excerpt:
    """An example, or the middle of a long one.

    Attributes:
        signal: what it is a sequence of.
        steps: the sequence, (n,) samples or (n, features) frames, as stored.
        length: of the whole example, in steps.
        picture: (bands, columns) in [0, 1]: the log-mel spectrogram of a sound, else the frames;
            the highest band first.
        reading: None where there are no gates to show.
    """

    signal: Signal
    steps: np.ndarray
    length: int
    picture: np.ndarray
    reading: Reading | None = None


@dataclass(frozen=True)
class Listener:
    """The model whose gates are shown.

    Attributes:
        arm, run: its names.
        layer: its path in the model.
        slowest, fastest: time constants of those two units, in the signal's steps.
    """

    arm: str
    run: str
    layer: str
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Heard:
    """Some test examples.

    Attributes:
        excerpts: by example id.
        listener: whose gates they come with.
        missing: why there are no excerpts, or no gates: one line.
    """

    excerpts: Mapping[int, Excerpt]
    listener: Listener | None = None
    missing: str = ""


def listen(workdir: epath.PathLike, comparison: Comparison, examples: Sequence[int]) -> Heard:
    """Reads test examples, and runs a model over them: that of a GRU arm where there is one."""
    if not examples:
        return Heard({})
    try:
        source = _open(comparison.results, comparison.arms[0].runs[0])
        clips = source.signals(examples)
        excerpts = [_excerpt(source.signal, clip) for clip in clips]
    except (UserError, OSError) as error:
        return Heard({}, missing=f"These examples cannot be shown here: {error}")
    try:
        listener, readings = _listen(Workdir(workdir), comparison, source, excerpts)
    except UserError as error:
        return Heard(
            dict(zip(examples, excerpts, strict=True)), missing=f"No gates are shown: {error}"
        )
    heard = [replace(e, reading=r) for e, r in zip(excerpts, readings, strict=True)]
    return Heard(dict(zip(examples, heard, strict=True)), listener)


def _open(results: Results, run: Run) -> Source:
    """The data set that a run was tested on.

    Raises:
      UserError: it is not prepared here, or is another by now.
    """
    source = open_source(run.config["data.name"], run.config.get("data.dir"))
    if source.fingerprint != results.data_fingerprint:
        raise UserError(f"{source.name} is not the data set any more that the runs were tested on.")
    return source


def _excerpt(signal: Signal, clip: np.ndarray) -> Excerpt:
    longest = round(_SECONDS * signal.rate) if signal.is_sound else _FRAMES
    start = max(0, len(clip) - longest) // 2
    steps = clip[start : start + longest]
    values = signal.floats(steps)
    picture = _log_mel(values, signal.rate) if signal.is_sound else values.T
    least, most = np.quantile(picture, _SILENT if signal.is_sound else 0), picture.max()
    picture = np.clip((picture - least) / (most - least or 1), 0, 1)
    return Excerpt(signal, steps, len(clip), picture[::-1])


def _log_mel(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Natural logarithm of the power in mel bands (bands, columns), a column every 10 ms.

    Fine enough to look at whatever features the models are given, and in line with the waveform:
    columns are centred on their times.
    """
    window, hop = round(0.025 * rate), round(0.010 * rate)
    n_fft = 1 << (4 * window - 1).bit_length()  # its finer bins leave no band of 64 empty
    frontend = LogMel(rate, n_fft, window, hop, mels=64, f_min=20.0, f_max=rate / 2, floor=1e-10)
    padded = np.pad(waveform, n_fft // 2)
    features, _ = frontend(jnp.asarray(padded)[None], jnp.array([len(padded)]))
    return np.asarray(features[0]).T


def _listen(
    workdir: Workdir, comparison: Comparison, source: Source, excerpts: Sequence[Excerpt]
) -> tuple[Listener, list[Reading]]:
    """The first model that has gates, and what they do; GRUs come first, then the best arms.

    Raises:
      UserError: no arm has a model at hand, or none has gates; of several reasons the first.
    """
    reasons = []
    for arm in sorted(comparison.arms, key=lambda arm: not _is_gru(arm.runs[0])):
        run = arm.runs[0].name
        try:
            trained = Trained.load(workdir.model(run))
            if trained.signal != source.signal:
                raise UserError(f"{run} was trained on other signals than {source.name} holds.")
            layer, gates = _gates(trained, excerpts)
        except UserError as error:
            reasons.append(error)
            continue
        memory = _time_constants(gates, trained.config.model.cell)
        stride, start = _frame_times(trained)
        readings = [_reading(each, np.argsort(-memory), stride, start) for each in gates]
        slowest, fastest = (float(m) * stride for m in (memory.max(), memory.min()))
        return Listener(arm.name, run, layer, slowest, fastest), readings
    raise reasons[0]


def _is_gru(run: Run) -> bool:
    return run.config.get("model.cell") in _GRUS


def _gates(
    trained: Trained, excerpts: Sequence[Excerpt]
) -> tuple[str, list[dict[str, np.ndarray]]]:
    """The last layer that reads forward, and of each excerpt its gates (frames, units).

    Raises:
      UserError: there are none.
    """
    found = trained.gates([excerpt.steps for excerpt in excerpts])
    forward = [name for name in found[0] if "forward" in name]
    layer = max(forward, key=lambda name: int(name.rpartition("_")[2]))
    names = [name for name in _GATES if name in found[0][layer]]
    if not names:
        raise UserError(f'Cells of "{trained.config.model.cell}" have no gates.')
    return layer, [{name: each[layer][name] for name in names} for each in found]


def _time_constants(gates: Sequence[Mapping[str, np.ndarray]], cell: str) -> np.ndarray:
    """Frames in which what a unit holds decays to 1/e, of the mean logarithm of what it keeps."""
    kept = np.concatenate([each["forget" if "forget" in each else "update"] for each in gates])
    if cell == "min_gru":  # its update gate says how much is written
        kept = 1 - kept
    return -1 / np.log(np.clip(kept, 1e-6, 1 - 1e-6)).mean(axis=0)


def _frame_times(trained: Trained) -> tuple[int, float]:
    """From one frame of the recurrent layers to the next, and where the first begins, in steps.

    A frame stands for the steps around the middle of what it was computed from.
    """
    program = trained.program()
    front = getattr(program.model, "front", None)
    hop = program.frontend.hop
    return hop * (front.subsampling if front else 1), (program.frontend.samples(1) - hop) / 2


def _reading(
    gates: Mapping[str, np.ndarray], order: np.ndarray, stride: int, start: float
) -> Reading:
    frames = len(next(iter(gates.values())))
    return Reading({name: g[:, order].T for name, g in gates.items()}, start, frames * stride)

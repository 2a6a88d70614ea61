"""Frontends as ONNX nodes. The Fourier transform is a convolution, which all runtimes have."""

from collections.abc import Callable

import numpy as np

from gru_audio.audio.frontends import Deltas, Frontend, LogMel, Mfcc, Pcen, RawFrames, Stacked
from gru_audio.audio.frontends.deltas import derivative_weights
from gru_audio.audio.frontends.log_mel import hann, mel_bands
from gru_audio.audio.frontends.mfcc import cosine_transform
from gru_audio.exports.onnx.graph import (
    Graph,
    count_to,
    gather_frames,
    ints,
    number,
    reshape,
    size,
    whole,
    windows,
)
from gru_audio.settings import UserError


def features(graph: Graph, frontend: Frontend, sound: str, lengths: str) -> tuple[str, str]:
    """Adds a frontend.

    Args:
      graph: the graph.
      frontend: the frontend.
      sound: samples (batch, samples).
      lengths: int64 (batch,), above 0.

    Returns:
      Features (batch, time, features) and the number of frames int64 (batch,).

    Raises:
      UserError: the frontend is not covered.
    """
    add = _WRITERS.get(type(frontend))
    if add is None:
        covered = ", ".join(kind.__name__ for kind in _WRITERS)
        raise UserError(
            f"--format onnx does not cover the frontend {type(frontend).__name__}, but {covered}: "
            "pass --from features."
        )
    return add(graph, frontend, sound, lengths)


def _mel_power(graph: Graph, log_mel: LogMel, sound: str, lengths: str) -> tuple[str, str]:
    """Returns the power in each band (batch, bands, time), and the number of frames (batch,)."""
    fft, window, bins = log_mel.fft_size, log_mel.window, log_mel.fft_size // 2 + 1
    x = _whole_frame(graph, sound, lengths, fft)
    start = (fft - window) // 2
    end = start + window - fft  # counted from the end of the sound
    x = graph.add("Slice", x, ints(start), ints(end or np.iinfo(np.int64).max), ints(1))
    angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(window)) / fft
    waves = hann(window) * np.concatenate([np.cos(angles), np.sin(angles)])
    kernel = waves[:, None].astype(np.float32)
    parts = graph.add("Conv", graph.add("Unsqueeze", x, ints(1)), kernel, strides=[log_mel.hop])
    bands = mel_bands(log_mel.sample_rate, fft, log_mel.mels, log_mel.f_min, log_mel.highest)
    both = np.tile(bands, 2).astype(np.float32)  # adds the squares of cosines and sines
    power = graph.add("MatMul", both, graph.add("Mul", parts, parts))
    return power, windows(graph, lengths, fft, log_mel.hop)


def _log_mel(graph: Graph, log_mel: LogMel, sound: str, lengths: str) -> tuple[str, str]:
    power, frames = _mel_power(graph, log_mel, sound, lengths)
    spectrum = graph.add("Log", graph.add("Max", power, number(log_mel.floor)))
    return graph.add("Transpose", spectrum, perm=[0, 2, 1]), frames


def _pcen(graph: Graph, pcen: Pcen, sound: str, lengths: str) -> tuple[str, str]:
    power, frames = _mel_power(graph, pcen.source, sound, lengths)
    x = graph.add("Transpose", power, perm=[2, 0, 1])
    # The smoothed level is the output of a recurrent layer without an activation function.
    identity = np.eye(pcen.features, dtype=np.float32)[None]
    first = graph.add("Slice", x, ints(0), ints(1), ints(0))
    level, _ = graph.add_several(
        "RNN",
        [x, pcen.smoothing * identity, (1 - pcen.smoothing) * identity, "", "", first],
        2,
        hidden_size=pcen.features,
        activations=["Affine"],
        activation_alpha=[1.0],
        activation_beta=[0.0],
    )
    level = graph.add("Squeeze", level, ints(1))
    gain = graph.add("Pow", graph.add("Add", level, number(pcen.source.floor)), number(-pcen.gain))
    biased = graph.add("Add", graph.add("Mul", x, gain), number(pcen.bias))
    compressed = graph.add("Pow", biased, number(pcen.power))
    compressed = graph.add("Sub", compressed, number(pcen.bias**pcen.power))
    return graph.add("Transpose", compressed, perm=[1, 0, 2]), frames


def _mfcc(graph: Graph, mfcc: Mfcc, sound: str, lengths: str) -> tuple[str, str]:
    spectrum, frames = _log_mel(graph, mfcc.source, sound, lengths)
    matrix = cosine_transform(mfcc.source.mels, mfcc.coefficients).astype(np.float32)
    return graph.add("MatMul", spectrum, matrix), frames


def _raw(graph: Graph, raw: RawFrames, sound: str, lengths: str) -> tuple[str, str]:
    x = _whole_frame(graph, sound, lengths, raw.frame_size)
    kept = graph.add("Div", size(graph, x, 1), whole(raw.frame_size))
    kept = graph.add("Mul", graph.add("Unsqueeze", kept, ints(0)), whole(raw.frame_size))
    x = graph.add("Slice", x, ints(0), kept, ints(1))
    return reshape(graph, x, 0, -1, raw.frame_size), windows(
        graph, lengths, raw.frame_size, raw.frame_size
    )


def _deltas(graph: Graph, deltas: Deltas, sound: str, lengths: str) -> tuple[str, str]:
    x, frames = features(graph, deltas.source, sound, lengths)
    time = graph.add("Add", size(graph, x, 1), whole(2 * deltas.reach))
    index = graph.add("Sub", count_to(graph, time), whole(deltas.reach))
    repeated = _clamped(graph, x, index, frames)
    orders = range(1, deltas.order + 1)
    weights = np.stack([derivative_weights(order, deltas.reach) for order in orders])
    kernel = weights[:, None, :, None].astype(np.float32)
    derivatives = graph.add("Conv", graph.add("Unsqueeze", repeated, ints(1)), kernel)
    derivatives = graph.add("Transpose", derivatives, perm=[0, 2, 1, 3])
    return graph.add("Concat", x, reshape(graph, derivatives, 0, 0, -1), axis=-1), frames


def _stacked(graph: Graph, stacked: Stacked, sound: str, lengths: str) -> tuple[str, str]:
    x, frames = features(graph, stacked.source, sound, lengths)

    def stacks(count: str) -> str:
        return graph.add(
            "Div", graph.add("Add", count, whole(stacked.size - 1)), whole(stacked.size)
        )

    count = graph.add("Mul", stacks(size(graph, x, 1)), whole(stacked.size))
    repeated = _clamped(graph, x, count_to(graph, count), frames)
    width = stacked.features
    return reshape(graph, repeated, 0, -1, width), stacks(frames)


def _whole_frame(graph: Graph, sound: str, lengths: str, frame: int) -> str:
    """Sets samples past the lengths to zero, and pads with zeros to at least one frame."""
    samples = size(graph, sound, 1)
    valid = graph.add("Less", count_to(graph, samples), graph.add("Unsqueeze", lengths, ints(1)))
    missing = graph.add("Max", graph.add("Sub", whole(frame), samples), whole(0))
    pads = graph.add("Concat", ints(0, 0, 0), graph.add("Unsqueeze", missing, ints(0)), axis=0)
    return graph.add("Pad", graph.add("Where", valid, sound, number(0)), pads)


def _clamped(graph: Graph, x: str, index: str, frames: str) -> str:
    """Returns the frames of all clips at an index (n,), which is clamped to each clip's frames."""
    last = graph.add("Unsqueeze", graph.add("Sub", frames, whole(1)), ints(1))
    return gather_frames(graph, x, graph.add("Min", graph.add("Max", index, whole(0)), last))


_WRITERS: dict[type, Callable[..., tuple[str, str]]] = {
    LogMel: _log_mel,
    Mfcc: _mfcc,
    Pcen: _pcen,
    RawFrames: _raw,
    Deltas: _deltas,
    Stacked: _stacked,
}

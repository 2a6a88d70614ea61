"""Packets of 20 ms through a streaming model, for 1 to 1000 streams at once.

Two layers of 128 GRU units with an output after every packet, with and without the log-mel
frontend, against the exported step in ONNX Runtime and `nn.GRU` in PyTorch, which have no frontend.
"real time" is the mean time of a packet divided by its duration: below 1, all streams keep up.
"error" is the largest difference of the outputs after a second from those of the whole second.

    taskset -c 0 python -m benchmarks streaming          # on one core
"""

import dataclasses
import functools
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Options, Row, cores, interleave, made, say
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import default_config, override
from gru_audio.data.fields import ClassField
from gru_audio.data.signal import Signal
from gru_audio.exports.function import make_function
from gru_audio.inference.stream import Stream
from gru_audio.inference.stream_step import stream_step
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.step import Weights

RATE, PACKET_MS, LAYERS, UNITS, CLASSES = 16000, 20, 2, 128, 12
STREAMS = (1, 16, 256, 1000)
_PACKETS = 50  # per turn, and in a second
Run = Callable[[np.ndarray], np.ndarray]  # the next packet of all streams -> logits


def measure(options: Options, streams: Sequence[int] = STREAMS) -> Iterator[Row]:
    """Times the contestants.

    Args:
      options: options of the command line.
      streams: numbers of streams.
    """
    trained = _model()
    for count in streams:
        say(f"{count} streams")
        makers: dict[str, Callable[[], _Contestant]] = {}
        if count == 1:
            makers["ours, Stream.push of sound"] = functools.partial(_push, trained, count)
        makers |= {
            "ours, from sound": functools.partial(_from_sound, trained, count),
            "ours, from features": functools.partial(_from_features, trained, count),
        }
        if importlib.util.find_spec("onnxruntime"):
            makers["ONNX Runtime, from features"] = functools.partial(_onnx, trained, count)
        if importlib.util.find_spec("torch"):
            makers["PyTorch, from features"] = functools.partial(_pytorch, trained, count)
        ready, failed = made(makers)
        interleave({name: one.turn for name, one in ready.items()}, options.seconds)
        table = f"{count} streams, packets of {PACKET_MS} ms, GRU {LAYERS} x {UNITS}"
        for name, one in ready.items():
            ms = 1e3 * np.array(one.times[_PACKETS:])  # the first turn warms up
            yield {
                "table": table,
                "contestant": name,
                "median_ms": float(np.median(ms)),
                "p99_ms": float(np.quantile(ms, 0.99)),
                "real_time": float(ms.mean() / PACKET_MS),
                "error": one.error,
            }
        for name, why in failed.items():
            yield {"table": table, "contestant": name, "failed": why}


@dataclasses.dataclass
class _Contestant:
    """A step that keeps its state.

    Attributes:
      run: the step.
      packets: inputs of a second.
      error: see the module.
      times: seconds of every packet.
    """

    run: Run
    packets: Sequence[np.ndarray]
    error: float
    times: list[float] = dataclasses.field(default_factory=list)

    def turn(self, _: int) -> None:
        """Times each packet of a second."""
        for packet in self.packets:
            began = time.perf_counter()
            self.run(packet)
            self.times.append(time.perf_counter() - began)


def _model() -> TrainedModel:
    """Returns a model with initial weights."""
    config = override(default_config(), {"model.hidden": UNITS, "model.layers": LAYERS})
    trained = TrainedModel(
        config=config,
        field=ClassField(tuple(f"word {i}" for i in range(CLASSES))),
        signal=Signal(RATE),
        longest=RATE,
        weights=Weights({}, {}),
        normalisation=Normalisation(jnp.zeros(()), jnp.ones(())),
        about={"run": "benchmark"},
    )
    program = trained.program()
    features = program.frontend.features
    normalisation = Normalisation(jnp.full(features, -7.0), jnp.ones(features))
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([config]))
    state = jax.jit(program.init)(jnp.uint32(0), hyper, normalisation)
    weights = jax.device_get(state.weights)
    return dataclasses.replace(trained, weights=weights, normalisation=normalisation)


def _sound(count: int) -> np.ndarray:
    """Returns a second of noise for each stream, in [-1, 1)."""
    noise = np.random.default_rng(0).normal(0, 0.05, (count, RATE))
    return np.rint(32768 * noise).astype(np.int16).astype(np.float32) / 32768


def _features(trained: TrainedModel, count: int) -> np.ndarray:
    """Returns two frames for each of the packets of a second (count, frames, features)."""
    rng, width = np.random.default_rng(0), trained.program().frontend.features
    return rng.normal(-7, 1, (count, 2 * _PACKETS, width)).astype(np.float32)


def _contestant(run: Run, packets: Sequence[np.ndarray], expected: Any) -> _Contestant:
    *_, last = map(run, packets)
    return _Contestant(run, packets, float(np.abs(last - np.asarray(expected)).max()))


def _of_sound(trained: TrainedModel, count: int, run: Run) -> _Contestant:
    sound, whole = _sound(count), make_function(trained, "sound")
    expected, _ = jax.jit(whole.__call__)(sound, np.full(count, RATE, np.int32))
    return _contestant(run, np.split(sound, _PACKETS, axis=1), expected)


def _push(trained: TrainedModel, count: int) -> _Contestant:
    stream = Stream.of(trained, PACKET_MS, count)
    return _of_sound(trained, count, lambda packet: stream.push(packet)[0].values)


def _from_sound(trained: TrainedModel, count: int) -> _Contestant:
    step = stream_step(trained, PACKET_MS)
    advance = jax.jit(step.__call__, donate_argnums=0)
    state = jax.tree.map(np.asarray, step.initial(count))

    def run(packet: np.ndarray) -> np.ndarray:
        nonlocal state
        state, new = advance(state, packet)
        return np.asarray(new.values)[:, 0]

    return _of_sound(trained, count, run)


def _with_state(step: Callable[..., Sequence[np.ndarray]], state: Sequence[np.ndarray]) -> Run:
    """Returns a step that keeps its state."""
    kept = list(state)

    def run(packet: np.ndarray) -> np.ndarray:
        outputs, *kept[:] = step(packet, *kept)
        return np.asarray(outputs)

    return run


def _from_features(trained: TrainedModel, count: int) -> _Contestant:
    step = make_function(trained, "features", stream=True)
    state = [np.zeros((count, UNITS), np.float32)] * LAYERS
    donated = tuple(range(1, 1 + LAYERS))
    run = _with_state(jax.jit(step.__call__, donate_argnums=donated), state)
    return _of_features(trained, count, run)


def _of_features(trained: TrainedModel, count: int, run: Run) -> _Contestant:
    features, whole = _features(trained, count), make_function(trained, "features")
    lengths = np.full(count, features.shape[1], np.int32)
    expected, _ = jax.jit(whole.__call__)(features, lengths)
    return _contestant(run, np.split(features, _PACKETS, axis=1), expected)


def _onnx(trained: TrainedModel, count: int) -> _Contestant:
    import onnxruntime

    from gru_audio.exports.onnx import encode

    function = make_function(trained, "features", stream=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(encode(function), options)
    names = [tensor.name for tensor in function.inputs]

    def step(*inputs: np.ndarray) -> list[np.ndarray]:
        return session.run(None, dict(zip(names, inputs, strict=True)))

    state = [np.zeros((count, UNITS), np.float32)] * LAYERS
    return _of_features(trained, count, _with_state(step, state))


def _pytorch(trained: TrainedModel, count: int) -> _Contestant:
    import torch

    from benchmarks.pytorch import Classifier

    network = Classifier("gru", trained.weights.params, "padded").cpu().eval()
    normalisation = trained.normalisation
    mean, std = (torch.tensor(np.asarray(each)) for each in (normalisation.mean, normalisation.std))
    state = torch.zeros(LAYERS, count, UNITS)

    def run(packet: np.ndarray) -> np.ndarray:
        nonlocal state
        with torch.inference_mode():
            outputs, state = network.layer((torch.from_numpy(packet) - mean) / std, state)
            return network.output(outputs[:, -1]).numpy()

    return _of_features(trained, count, run)

"""The function that an export computes: a trained model of sound, of features, or of a chunk."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.normalise import Normalisation
from gru_audio.config import override
from gru_audio.inference.stream import CHUNK_MS
from gru_audio.inference.stream_stages import endless
from gru_audio.inference.stream_step import StreamStep, stream_step
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError
from gru_audio.training.step import Program, Weights

BATCH, TIME, SAMPLES = "batch", "time", "samples"  # names of sizes that a caller chooses
_FRAMES = (60, 33, 7, 1)  # of the clips of an example
_CHUNK = 7  # frames


@dataclass(frozen=True)
class Tensor:
    """An input or an output of an export.

    Attributes:
      name: its name.
      shape: sizes; a text is the name of a size that may differ from call to call.
      dtype: "float32" or "int32".
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Function:
    """A trained model as a function of arrays, in float32.

    The inputs are `sound` (batch, samples) in [-1, 1), or `features` (batch, time, features) as the
    frontend computes them, before normalisation. `lengths` (batch,) counts the valid samples or
    frames of each clip. The outputs are `outputs`, the logits (batch, outputs), or (batch, time,
    outputs) if the task is per frame, and `output_lengths` (batch,).

    In a stream the inputs are the next `features` of each sequence, all of which are valid, and the
    `state_0`, `state_1` ... of the frames before. The outputs are `outputs` and `next_state_0`,
    `next_state_1` ... The first states are zero.

    A stream of sound reads a chunk (batch, samples) of `sound`. `lengths` (batch,) counts its valid
    samples: fewer than all end a stream, and the last outputs come with the following chunks.
    `restart` (batch,) is 1 where a new stream begins with the chunk, and 0 elsewhere. The first of
    the `outputs` (batch, time, outputs) are new: `output_lengths` (batch,) of them.

    Attributes:
      trained: the model.
      program: its program.
      source: "sound" or "features".
      stream: see above.
      chunk_ms: duration of a chunk of sound.
    """

    trained: TrainedModel
    program: Program
    source: str
    stream: bool
    chunk_ms: float

    @property
    def of_chunks(self) -> bool:
        """Whether it reads a stream of sound."""
        return self.stream and self.source == "sound"

    @functools.cached_property
    def step(self) -> StreamStep:
        """The step of a stream."""
        return stream_step(self.trained, self.chunk_ms)

    def first_state(self, batch: int) -> Any:
        """Returns the state of a stream before its first piece."""
        step = self.step
        if self.source == "sound":
            return step.initial(batch)
        features = jnp.zeros((batch, 1, self.program.frontend.features))
        return step.model.initial(endless(features))

    @property
    def states(self) -> tuple[Tensor, ...]:
        """The states of a stream, in the order of the layers; () for whole clips."""
        if not self.stream:
            return ()
        leaves = jax.tree.leaves(jax.eval_shape(lambda: self.first_state(1)))
        return tuple(
            Tensor(f"state_{i}", (BATCH, *leaf.shape[1:]), str(leaf.dtype))
            for i, leaf in enumerate(leaves)
        )

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Descriptions of the inputs."""
        lengths = Tensor("lengths", (BATCH,), "int32")
        if self.of_chunks:
            sound = Tensor("sound", (BATCH, self.step.chunk))
            return sound, lengths, Tensor("restart", (BATCH,), "int32"), *self.states
        if self.source == "sound":
            signal = Tensor("sound", (BATCH, SAMPLES))
        else:
            signal = Tensor("features", (BATCH, TIME, self.program.frontend.features))
        return signal, *(self.states if self.stream else [lengths])

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Descriptions of the outputs."""
        time: tuple[int | str, ...] = ()
        if self.of_chunks:
            time = (self.step.new,)
        elif self.program.task.per_frame:
            time = ("output_time",)
        outputs = Tensor("outputs", (BATCH, *time, self.program.task.outputs))
        lengths = Tensor("output_lengths", (BATCH,), "int32")
        following = [replace(state, name=f"next_{state.name}") for state in self.states]
        if self.stream and self.source == "features":
            return outputs, *following
        return outputs, lengths, *following

    @property
    def shortest(self) -> int:
        """The smallest size of the time axis, in samples or frames, that every format allows.

        With this many frames no convolution of "valid" padding needs to pad its input.
        """
        frames = 1
        if self.trained.config.model.get("conv_padding") == "valid":
            model = self.program.model
            frames = next(n for n in itertools.count(1) if model.output_lengths(n) > 1)
        return self.program.frontend.samples(frames) if self.source == "sound" else frames

    def __call__(self, *inputs: jax.Array) -> tuple[jax.Array, ...]:
        """Computes the `outputs` from the `inputs`, in their order."""
        with jax.default_matmul_precision("float32"):  # TPUs and GPUs would round the factors
            return self._outputs(*inputs)

    def _outputs(self, signal: jax.Array, *others: jax.Array) -> tuple[jax.Array, ...]:
        if self.stream:
            return self._next_outputs(signal, *others)
        lengths = others[0]
        if self.source == "sound":
            signal, lengths = self.program.frontend(signal, lengths)
        variables: Any = {"params": self.trained.weights.params}
        variables |= self.trained.weights.model_state
        features = self.trained.normalisation(signal)
        outputs: Any = self.program.model.apply(variables, features, lengths, train=False)
        return outputs.values, outputs.lengths.astype(jnp.int32)

    def _next_outputs(self, signal: jax.Array, *others: jax.Array) -> tuple[jax.Array, ...]:
        step, tree = self.step, jax.tree.structure(self.first_state(1))
        if self.source == "sound":
            lengths, restart, *leaves = others
            state, new = step(jax.tree.unflatten(tree, leaves), signal, lengths, restart != 0)
            return new.values, new.counts, *jax.tree.leaves(state)
        features = endless(self.trained.normalisation(signal))
        after, new = step.model(jax.tree.unflatten(tree, others), features)
        values = new.values if self.program.task.per_frame else new.values[:, 0]
        return values, *jax.tree.leaves(after)

    def with_weights(self, weights: Weights, normalisation: Normalisation) -> "Function":
        """Returns the function with other weights."""
        trained = replace(self.trained, weights=weights, normalisation=normalisation)
        return replace(self, trained=trained)

    def example(self, batch: int | None = None, frames: int | None = None) -> list[np.ndarray]:
        """Returns inputs for a comparison: noise with the statistics of the training features.

        Args:
          batch: number of clips or streams; by default 4 clips of different lengths, or 2 streams.
          frames: frames of the longest clip, or of a chunk.
        """
        rng = np.random.default_rng(0)
        frontend, normalisation = self.program.frontend, self.trained.normalisation
        lengths = np.array(_FRAMES[:batch], np.int32)
        size = frames or (_CHUNK if self.stream else max(lengths[0], self.shortest))
        rows = batch or (2 if self.stream else len(lengths))
        if self.of_chunks:
            return self._chunk(batch or 2)
        if self.source == "sound":
            size = max(frontend.samples(int(lengths[0])), self.shortest) + frontend.hop // 2
            lengths = np.array([frontend.samples(int(n)) for n in lengths], np.int32)
            lengths[0] = size
            lengths[-1] //= 2  # less than a window
            return [0.1 * rng.standard_normal((rows, size), np.float32), lengths]
        noise = rng.standard_normal((rows, size, frontend.features), np.float32)
        features = np.asarray(normalisation.mean + normalisation.std * noise, np.float32)
        if not self.stream:
            return [features, lengths]
        shapes = [(rows, *map(int, state.shape[1:])) for state in self.states]
        states = [rng.standard_normal(shape, np.float32) / 2 for shape in shapes]
        return [features, *states]

    def _chunk(self, batch: int) -> list[np.ndarray]:
        """Returns inputs in the middle of streams, one of which ends and one of which begins."""
        rng, step = np.random.default_rng(0), self.step
        lengths, restart = np.full(batch, step.chunk, np.int32), np.zeros(batch, np.int32)
        state, run = jax.tree.leaves(step.initial(batch)), jax.jit(self.__call__)
        for _ in range(_CHUNK + step.flush):
            sound = 0.1 * rng.standard_normal((batch, step.chunk), np.float32)
            inputs: list[Any] = [sound, lengths, restart, *map(np.asarray, state)]
            _, _, *state = run(*inputs)
        lengths[0] //= 2
        restart[1:] = 1
        return inputs


def make_function(
    trained: TrainedModel, source: str, stream: bool = False, chunk_ms: float = CHUNK_MS
) -> Function:
    """Returns the function of a trained model.

    Args:
      trained: the model.
      source: one of `gru_audio.exports.SOURCES`.
      stream: whether it computes the next piece of a sequence from a state.
      chunk_ms: see `Function`.

    Raises:
      UserError: the model does not read sound, cannot run in a stream, or generates sound.
    """
    config = trained.config
    portable: dict[str, Any] = {"model.compute_dtype": "float32"}
    if "implementation" in config.model:  # this one runs on every platform
        portable |= {"model.implementation": "loop", "model.remat_frames": 0}
    trained = replace(trained, config=override(config, portable))
    if source == "sound" and not trained.signal.is_sound:
        raise UserError(
            f"{trained.about['run']} was trained on frames, not on sound: pass --from features."
        )
    function = Function(trained, trained.program(), source, stream, chunk_ms)
    if function.program.task.of_samples:
        raise UserError(
            f"{trained.about['run']} generates sound, which no format covers but --format "
            "safetensors, the weights."
        )
    if stream and source == "features":
        _check_pieces(function)
    elif stream:
        assert function.step  # raises an error if the model cannot run in a stream
    return function


def _check_pieces(function: Function) -> None:
    """Raises `UserError` if a model cannot run on pieces of any number of features."""
    model = function.step.model
    if model.layers.later or model.layers.step > 1:
        raise UserError(
            "--stream --from features needs a model without strides and later frames: pass "
            "--from sound."
        )
    if any(np.any(leaf) for leaf in jax.tree.leaves(function.first_state(1))):
        pooling = function.trained.config.model.pooling
        raise UserError(
            f'--stream --from features: config.model.pooling="{pooling}" does not begin with '
            "zeros: pass --from sound."
        )


def difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Returns the largest absolute difference between the outputs of two functions.

    The difference of an output is divided by its largest magnitude if that is above 1, because
    logits and states of some cells are unbounded. Infinite for other shapes and for NaN.
    """
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        if np.shape(one) != np.shape(other) or not np.isfinite(one).all():
            return float("inf")
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        largest = max(largest, float(np.abs(one - other).max(initial=0)) / scale)
    return largest

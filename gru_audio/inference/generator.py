"""Generation of sound by a trained model, sample by sample."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gru_audio.audio.frontends.samples import Samples
from gru_audio.data.fields import shorten
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.nn.generative import SampleModel, generate, silence
from gru_audio.platforms import platform
from gru_audio.settings import UserError, nearest

_CALL = 4096  # samples of a call to the device, at most
_LONGEST = 86_400  # seconds: a day

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Generator:
    """Draws sounds from a model of `config.task.name=generation`.

    Sound i of a seed has its own random key, and sample n of it the key of (seed, i, n). `rows`
    sounds form a program, and each device runs one program at a time. So a sound does not depend on
    the number of sounds or devices. The order of a sum may depend on `rows` and on the type of the
    device; its rounding can then change a sample, and all that follow it.

    Attributes:
      trained: the model.
      rows: sounds that are computed at once on a device.
    """

    trained: TrainedModel
    rows: int

    @classmethod
    def of(cls, trained: TrainedModel) -> "Generator":
        """Makes the generator of a model. On a CPU one sound at a time is the fastest.

        Raises:
          UserError: the model was not trained to generate.
        """
        if not trained.program().task.of_samples:
            raise UserError(
                f"{trained.about['run']} generates no sound: "
                f"config.task.name={trained.config.task.name}, not generation."
            )
        return cls(trained, 1 if platform() == "cpu" else 64)

    def samples(self, seconds: float) -> int:
        """Returns the number of samples of a duration.

        Raises:
          UserError: it is not above 0, or longer than a day.
        """
        if not 0 < seconds <= _LONGEST:
            raise UserError(f"seconds={seconds:g} must be above 0 and at most {_LONGEST}, a day.")
        return max(1, round(seconds * self.trained.signal.rate))

    def sounds(
        self,
        samples: int,
        count: int = 1,
        *,
        conditions: str | Sequence[str] | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        prefix: np.ndarray | None = None,
        progress: Progress = lambda done, total: None,
    ) -> np.ndarray:
        """Generates sounds.

        Args:
          samples: new samples of each sound.
          count: number of sounds.
          conditions: the class of all sounds, or one for each sound; None for a model without.
          temperature: divides the logits. Below 1, probable samples become more probable.
          seed: of the random numbers.
          prefix: int16 (n,) at the model's rate, which each sound continues; None: silence.
          progress: is called with the number of finished calls to the devices, and of all calls.

        Returns:
          int16 (count, n + samples): the prefix as it was quantised, then the new samples.

        Raises:
          UserError: an argument is invalid.
        """
        if not 0 < temperature < float("inf"):
            raise UserError(f"temperature={temperature:g} must be a number above 0.")
        if count < 1:
            raise UserError(f"count={count} must be at least 1.")
        if not 0 <= seed < 2**32:
            raise UserError(f"seed={seed} must be at least 0 and below 2^32.")
        numbers = self._classes(conditions, count)
        past = self._codes(np.zeros(0, np.int16) if prefix is None else prefix)
        calls = -(-samples // _CALL)
        length = -(-samples // (calls * self._model.stride)) * self._model.stride
        devices = jax.local_devices()
        together = self.rows * len(devices)
        drawn = []
        for first in range(0, count, together):
            running = [
                self._calls(device, seed, ids, numbers[ids % count], past, temperature, length)
                for device, ids in zip(
                    devices, np.arange(first, first + together).reshape(-1, self.rows), strict=True
                )
                if ids[0] < count
            ]
            parts = []
            for call in range(calls):
                waiting = [next(codes) for codes in running]  # all devices compute
                parts.append(np.concatenate(jax.device_get(waiting)))
                progress(first // together * calls + call + 1, -(-count // together) * calls)
            drawn.append(np.concatenate(parts, axis=1))
        codes = np.concatenate(drawn)[:count, :samples]
        before = np.broadcast_to(past, (count, *past.shape))
        return self._frontend.waveform(np.concatenate([before, codes], axis=1))

    def _calls(
        self,
        device: jax.Device,
        seed: int,
        ids: np.ndarray,
        numbers: np.ndarray,
        past: np.ndarray,
        temperature: float,
        length: int,
    ) -> Iterator[jax.Array]:
        """Yields the codes (rows, length, codes) of one call after another, without an end.

        Args:
          device: computes them.
          seed: of the random numbers.
          ids: numbers of the sounds (rows,).
          numbers: their classes (rows,); -1: none.
          past: the codes that they continue (n, codes).
          temperature: divides the logits.
          length: samples of a call.
        """
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), ids)
        state, previous, condition = self._after(past, numbers)
        put = jax.device_put((self._variables, keys, condition, state, previous), device)
        variables, keys, condition, state, previous = put
        for call in itertools.count():
            state, previous, codes = self._call(
                variables, keys, condition, state, previous, call * length, temperature, length
            )
            yield codes

    @functools.cached_property
    def _call(self) -> Callable[..., Any]:
        """The function that draws the next samples, compiled once for each length."""

        @functools.partial(jax.jit, static_argnames="length")
        def call(variables, keys, condition, state, previous, start, temperature, length):
            def choose(logits: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
                return sampled(logits / temperature, uniform)

            uniform = uniforms(keys, start + jnp.arange(length), self._model.codes)
            last, drawn = generate(
                self._model, variables, state, previous, condition, choose, uniform
            )
            return drawn.state, last, drawn.codes.astype(jnp.uint8)

        return call

    def _after(self, past: np.ndarray, numbers: np.ndarray) -> tuple[Any, jax.Array, jax.Array]:
        """Returns the state after the codes (n, codes), the last of them, and the condition."""
        task, model = self._program.task, self._model
        rows = len(numbers)
        condition = jax.nn.one_hot(numbers, len(task.conditions))
        start = jnp.broadcast_to(silence(model.codes, model.levels), (rows, model.codes))
        state = model.initial_state(rows)
        if not len(past):
            return state, start, condition
        # The first frame of a model with frames may begin with silence.
        filling = np.broadcast_to(start[:1], (-len(past) % model.stride, model.codes))
        codes = jnp.asarray(np.concatenate([filling, past]), jnp.float32)
        codes = jnp.broadcast_to(codes, (rows, *codes.shape))
        lengths = jnp.full(rows, codes.shape[1])
        inputs = task.inputs_and_targets(codes, lengths, numbers).inputs
        state = self._read(self._variables, inputs, state)
        return state, codes[:, -1].astype(jnp.int32), condition

    @functools.cached_property
    def _read(self) -> Callable[..., Any]:
        """The function that reads given samples, compiled once for each number of them."""

        @jax.jit
        def read(variables: Any, inputs: jax.Array, state: Any) -> Any:
            outputs: Any = self._model.apply(variables, inputs, None, state=state)
            return outputs.state

        return read

    def _codes(self, samples: np.ndarray) -> np.ndarray:
        """Returns the codes of a sound, uint8 (n, codes)."""
        if not len(samples):
            return np.zeros((0, self._model.codes), np.uint8)
        waveform = jnp.asarray(self.trained.signal.floats(samples))[None]
        codes, _ = self._frontend(waveform, jnp.array([len(samples)]))
        return np.asarray(codes[0], np.uint8)

    def _classes(self, conditions: str | Sequence[str] | None, count: int) -> np.ndarray:
        """Returns the numbers of the classes that condition `count` sounds (count,)."""
        names, field = self._program.task.conditions, self.trained.config.data.target
        if conditions is None:
            if names:
                raise UserError(f"The model needs a condition: {field}={shorten(names, 10)}.")
            return np.full(count, -1)
        if not names:
            raise UserError("The model has no condition: it was trained with config.data.target=.")
        wanted = [conditions] * count if isinstance(conditions, str) else list(conditions)
        if len(wanted) != count:
            raise UserError(f"There are {len(wanted)} conditions for {count} sounds.")
        for name in wanted:
            if name not in names:
                raise UserError(f'"{name}" is no class of {field}.{nearest(str(name), names)}')
        return np.array([names.index(name) for name in wanted])

    @functools.cached_property
    def _program(self) -> Any:
        return self.trained.program()

    @property
    def _model(self) -> SampleModel:
        return self._program.model

    @property
    def _frontend(self) -> Samples:
        return self._program.frontend

    @functools.cached_property
    def _variables(self) -> dict[str, Any]:
        return {"params": self.trained.weights.params, **self.trained.weights.model_state}


def uniforms(keys: jax.Array, numbers: jax.Array, codes: int) -> jax.Array:
    """Returns uniform random numbers in [0, 1), (sounds, samples, codes).

    Args:
      keys: of the sounds (sounds,).
      numbers: of the samples in their sound (samples,).
      codes: codes per sample.
    """

    def of_sample(key: jax.Array, number: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, number), (codes,))

    return jax.vmap(jax.vmap(of_sample, (None, 0)), (0, None))(keys, numbers)


def sampled(logits: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws codes from logits (batch, levels) by inversion of the distribution function.

    Args:
      logits: of each code.
      uniform: random numbers in [0, 1), (batch,).

    Returns:
      The codes, int32 (batch,), and their log-probabilities (batch,).
    """
    cumulative = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
    below = cumulative <= (uniform * cumulative[:, -1])[:, None]
    codes = below.sum(-1, dtype=jnp.int32)
    return codes, log_probability(logits, codes)


def log_probability(logits: jax.Array, codes: jax.Array) -> jax.Array:
    """Returns the log-probabilities (batch,) of codes (batch,) under logits (batch, levels)."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), codes[:, None], axis=-1)[:, 0]

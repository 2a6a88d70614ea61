"""One step of many streams: a pure function of their state and their next samples."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gru_audio.audio.normalise import Normalisation
from gru_audio.inference.stream_frontends import frontend_stages
from gru_audio.inference.stream_models import Pieces, StreamModel, stream_model
from gru_audio.inference.stream_stages import OPEN, Chain, Span
from gru_audio.inference.trained_model import TrainedModel

State = dict[str, Any]


@dataclass(frozen=True, eq=False)
class StreamStep:
    """The step from the samples of a chunk to new outputs.

    A state is a dict of arrays with a leading axis of S streams. Streams may begin at different
    chunks, and end anywhere. The outputs of each are those of its whole sound.

    Attributes:
      frontend: from samples to features.
      normalisation: of the features.
      model: from features to outputs.
      chunk: samples (or frames of a data set of frames) per step.
      shape: the shape of a sample: (), or (values,) for frames.
    """

    frontend: Chain
    normalisation: Normalisation
    model: StreamModel
    chunk: int
    shape: tuple[int, ...] = ()

    @property
    def hop(self) -> int:
        """Samples from one output to the next, before pooling."""
        return self.frontend.step * self.model.layers.step

    @property
    def new(self) -> int:
        """The largest number of new outputs of a stream in a step."""
        return self.chunk // self.hop if self.model.pooling is None else 1

    @property
    def window(self) -> int:
        """Samples of a window of the frontend."""
        return self.frontend.windows[0].size

    @property
    def look_ahead(self) -> int:
        """Samples that an output depends on after its first window."""
        chain = Chain(self.frontend.stages + self.model.layers.stages)
        return chain.later + 1 - self.window

    @property
    def flush(self) -> int:
        """Steps after the last sample until all outputs are known."""
        delay = self.model.layers.delay * self.hop
        return -(-delay // self.chunk)

    def initial(self, streams: int, dtype: Any = jnp.float32) -> State:
        """Returns the state of streams before their first chunk."""
        age = jnp.zeros(streams, jnp.int32)
        samples = jax.ShapeDtypeStruct((streams, self.chunk, *self.shape), dtype)
        source = Span(samples, age, age)  # type: ignore[arg-type]  # only shapes are read
        frontend = self.frontend.initial(source)
        _, features = jax.eval_shape(self.frontend, frontend, source)
        model = self.model.initial(features)
        return {"age": age, "left": age + OPEN, "frontend": frontend, "model": model}

    def __call__(
        self,
        state: State,
        samples: jax.Array,
        lengths: jax.Array | None = None,
        restart: jax.Array | None = None,
    ) -> tuple[State, Pieces]:
        """Runs the next chunk of every stream.

        Args:
          state: `initial`, or the state after the previous chunk.
          samples: float (S, chunk, ...), sound in [-1, 1).
          lengths: how many of them belong to each stream (S,). Fewer than `chunk` end a stream: the
            following chunks, whatever is in them, bring the outputs that are still to come. A
            stream without samples has no outputs. None: no stream ends.
          restart: whether a new stream begins with this chunk, bool (S,); None: none does.

        Returns:
          The new state, and the new outputs.
        """
        if restart is not None:
            fresh = self.initial(samples.shape[0], samples.dtype)

            def chosen(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(restart.reshape(-1, *[1] * (old.ndim - 1)), new, old)

            state = jax.tree.map(chosen, fresh, state)
        age, left = state["age"], state["left"]
        if lengths is not None:
            left = jnp.where((left == OPEN) & (lengths < self.chunk), lengths, left)
        span = Span(samples, -self.chunk * age, left)
        frontend, span = self.frontend(state["frontend"], span)
        span = span._replace(values=self.normalisation(span.values))
        model, pieces = self.model(state["model"], span)
        left = jnp.where(left == OPEN, OPEN, jnp.maximum(left - self.chunk, -OPEN))
        age = jnp.minimum(age + 1, OPEN // self.chunk)
        return {"age": age, "left": left, "frontend": frontend, "model": model}, pieces


def stream_step(trained: TrainedModel, chunk_ms: float) -> StreamStep:
    """Returns the step of a trained model.

    Args:
      trained: the model.
      chunk_ms: duration of a chunk. It becomes the nearest multiple of the time from one output of
        the model to the next, before pooling.

    Raises:
      UserError: the model cannot run in a stream. The message names the setting.
    """
    program = trained.program()
    variables = {"params": trained.weights.params, **trained.weights.model_state}
    frontend = Chain(frontend_stages(program.frontend))
    model = stream_model(program.model, variables, program.task.per_frame, frontend.delay)
    hop = frontend.step * model.layers.step
    chunk = hop * max(1, round(chunk_ms * trained.signal.rate / 1000 / hop))
    return StreamStep(frontend, trained.normalisation, model, chunk, trained.signal.shape)

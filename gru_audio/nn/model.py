"""The interface of models."""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax

from gru_audio.nn.layer import Dropout
from gru_audio.settings import UserError


class Outputs(NamedTuple):
    """The result of a model.

    Attributes:
      values: float32 logits, (batch, outputs) for whole clips or (batch, time, outputs) for frames.
      lengths: int (batch,), number of valid output frames.
      state: state for the following frames; None if the model cannot run in pieces.
    """

    values: jax.Array
    lengths: jax.Array
    state: Any = None


class Positions(NamedTuple):
    """The positions of output frames in the sequence of input frames.

    Attributes:
      first: position of the first output frame.
      step: input frames from one output frame to the next.
    """

    first: float = 0.0
    step: int = 1


class Model(nn.Module):
    """A network that maps frames (batch, time, features) to `Outputs`.

    A subclass declares its properties. They are not inferred from its fields.

    Attributes:
      recurrent: names of the submodules that are recurrent layers. Their parameters can be counted
        separately.
      bottleneck: whether all that outputs know of a sequence is one vector. Such a model has the
        methods `encode` and `decode`.
      of_samples: whether it is a generative model of sound, a `SampleModel`.
    """

    recurrent: ClassVar[tuple[str, ...]] = ()
    bottleneck: ClassVar[bool] = False
    of_samples: ClassVar[bool] = False

    @property
    def look_ahead(self) -> str:
        """The setting that makes the model causal, such as "KEY=VALUE"; "" if it is causal."""
        raise NotImplementedError(f"{type(self).__name__} must declare look_ahead.")

    @property
    def causal(self) -> bool:
        """Whether the output of a frame depends only on that frame and earlier frames."""
        return not self.look_ahead

    def output_lengths(self, lengths: Any) -> Any:
        """Returns the number of output frames for numbers of input frames, an int or an array."""
        return lengths

    @property
    def stride(self) -> int:
        """The length of a piece must be a multiple of this many frames, except the last one."""
        return 1

    @property
    def positions(self) -> Positions:
        """The positions of the output frames in the sequence of input frames."""
        return Positions()

    def initial_state(self, batch: int) -> Any:
        """Returns the state before the first frame.

        Raises:
          UserError: the model cannot run in pieces. The message names the setting to change.
        """
        raise UserError(f"{type(self).__name__} cannot run in pieces: it carries no state.")

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array,
        *,
        state: Any = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """Runs the model on whole sequences, or on the next piece of them.

        Args:
          features: frames (batch, time, features). Frames past an example's length have no effect.
          lengths: int (batch,), valid frames.
          state: state after the previous piece, or `initial_state`; None for whole sequences.
          train: whether batch norm uses the statistics of the batch and updates the running ones.
          dropout: None: no dropout.
        """
        raise NotImplementedError

    def step(self, state: Any, features: jax.Array) -> tuple[Any, Outputs]:
        """Runs the model on the next frames (batch, time, features), all of which are valid."""
        batch, time = features.shape[:2]
        outputs = self(features, jax.numpy.full(batch, time), state=state)
        return outputs.state, outputs

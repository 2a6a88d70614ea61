"""What every model declares and returns."""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax

from gru_audio.nn.layer import Dropout
from gru_audio.settings import UserError


class Outputs(NamedTuple):
    """What a model returns.

    Attributes:
      values: float32 logits, (batch, outputs) of whole clips or (batch, time, outputs) of frames.
      lengths: int (batch,), how many frames of the model are valid.
      state: what the model needs to go on with the following frames; None if it cannot.
    """

    values: jax.Array
    lengths: jax.Array
    state: Any = None


class Model(nn.Module):
    """A network from frames (batch, time, features) to `Outputs`.

    Nothing about a model is inferred from its fields: a subclass declares what follows.

    Attributes:
      recurrent: names of the submodules that are recurrent layers, whose parameters are counted
        apart.
    """

    recurrent: ClassVar[tuple[str, ...]] = ()

    @property
    def look_ahead(self) -> str:
        """The setting to change so that no frame's output reads later frames; "" if none does."""
        raise NotImplementedError(f"{type(self).__name__} must declare look_ahead.")

    @property
    def causal(self) -> bool:
        """Whether the output of a frame depends on that frame and earlier ones alone."""
        return not self.look_ahead

    def output_lengths(self, lengths: Any) -> Any:
        """How many frames the model makes of so many, an int or an int array; all by default."""
        return lengths

    def initial_state(self, batch: int) -> Any:
        """The state before the first frame.

        Raises:
          UserError: the model cannot run in pieces; the message says which setting to change.
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
        """Runs on whole sequences, or on the next piece of them.

        Args:
          features: frames (batch, time, features); those past an example's length do not count.
          lengths: int (batch,), valid frames.
          state: of the piece before, or `initial_state`; None for whole sequences.
          train: batch norm uses and updates the batch's statistics.
          dropout: None: off.
        """
        raise NotImplementedError

    def step(self, state: Any, features: jax.Array) -> tuple[Any, Outputs]:
        """Runs on the next frames (batch, time, features), all of them valid."""
        batch, time = features.shape[:2]
        outputs = self(features, jax.numpy.full(batch, time), state=state)
        return outputs.state, outputs

"""WaveRNN: a GRU with two softmaxes, for the coarse and the fine half of a sample's bits.

Kalchbrenner et al. 2018 (arXiv 1802.08435, eq. 2).
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.cells import CELLS
from gru_audio.nn.equations import Carry
from gru_audio.nn.generative import (
    EMBEDDING,
    INPUTS,
    Choice,
    CodeInput,
    Conditioned,
    Drawn,
    SampleModel,
    joined,
)
from gru_audio.nn.initialisers import per_gate
from gru_audio.nn.layer import Dropout
from gru_audio.nn.model import Outputs
from gru_audio.nn.recurrence import recurrence
from gru_audio.settings import setting

_GRU = CELLS["gru"]  # with the reset gate after the product, as in the paper


class WaveRnn(SampleModel):
    """Predicts the coarse half of a code, then the fine half given the coarse one.

    The state has two halves. Both gate the whole previous state, but the coarse half of the new
    state does not read the sample's own coarse code; the fine half does. The logits of a half of
    the code depend on the same half of the state.

    Attributes:
      hidden: units of each half of the state.
      input, embedding: how each half of a code is read; see `CodeInput`. The paper reads values.
    """

    hidden: int = setting(128, low=1, high=2**16, unit="units", doc="Units of a half of the state.")
    input: str = setting(EMBEDDING, choices=INPUTS, doc="A learned vector per code, or its value.")
    embedding: int = setting(64, low=1, high=2**12, unit="units", doc="Width of that input.")
    dtype: jax.typing.DTypeLike | None = None

    codes: ClassVar[int] = 2
    recurrent = ("of_past", "of_coarse", "recurrent_kernel", "recurrent_bias")

    def initial_state(self, batch: int) -> Carry:
        """Returns the initial state of the GRU: zeros."""
        return _GRU.initial_carry(batch, 2 * self.hidden, self.dtype or jnp.float32)

    def setup(self) -> None:
        gates, units = len(_GRU.gates), 2 * self.hidden
        self.read = [CodeInput(self.levels, self.embedding, self.input) for _ in range(3)]
        self.conditioned = Conditioned()
        self.of_past = nn.Dense(gates * units, dtype=self.dtype)
        self.of_coarse = nn.Dense(gates * self.hidden, use_bias=False, dtype=self.dtype)
        self.recurrent_kernel = self.param(
            "recurrent_kernel", per_gate("orthogonal", gates), (units, gates * units)
        )
        self.recurrent_bias = self.param("recurrent_bias", nn.initializers.zeros, (units,))
        self.dense = [nn.Dense(self.hidden) for _ in range(2)]
        self.output = [nn.Dense(self.levels) for _ in range(2)]

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array | None,
        *,
        state: Carry | None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `SampleModel`. Dropout is applied to the state before the output."""
        del train  # there is no batch norm
        batch, time = features.shape[:2]
        state = self.initial_state(batch) if state is None else state
        *before, coarse = (read(features[..., i]) for i, read in enumerate(self.read))
        past = self.conditioned(jnp.concatenate(before, axis=-1), features[:, 0, 3:])
        gates = len(_GRU.gates)
        by_gate = zip(
            jnp.split(self.of_past(past), gates, axis=-1),
            jnp.split(self.of_coarse(coarse), gates, axis=-1),
            strict=True,
        )
        projections = tuple(
            jnp.swapaxes(both.at[..., self.hidden :].add(fine), 0, 1) for both, fine in by_gate
        )
        params = {"recurrent_kernel": self.recurrent_kernel, "recurrent_bias": self.recurrent_bias}
        outputs, state = recurrence(_GRU, params, projections, state, lengths)
        frames = jnp.swapaxes(outputs, 0, 1).astype(jnp.float32)
        if dropout is not None:
            frames = dropout(frames, 0)
        logits = [
            output(nn.relu(dense(half)))
            for half, dense, output in zip(
                jnp.split(frames, 2, axis=-1), self.dense, self.output, strict=True
            )
        ]
        lengths = jnp.full(batch, time) if lengths is None else lengths
        return Outputs(jnp.concatenate(logits, axis=-1), lengths, state)

    def draw(
        self,
        variables: Any,
        state: Carry,
        previous: jax.Array,
        condition: jax.Array,
        choose: Choice,
        needed: jax.Array,
    ) -> Drawn:
        """See `SampleModel`. The model runs twice; the product with the state is the same."""

        def apply(coarse: jax.Array) -> Any:
            inputs = joined(jnp.concatenate([previous, coarse[:, None]], axis=1), condition)
            return self.apply(variables, inputs, None, state=state)

        logits = apply(jnp.zeros(len(previous), jnp.int32)).values[:, 0, : self.levels]
        coarse, log_coarse = choose(logits, needed[:, 0, 0])
        outputs = apply(coarse)
        fine, log_fine = choose(outputs.values[:, 0, self.levels :], needed[:, 0, 1])
        codes = jnp.stack([coarse, fine], axis=-1)
        return Drawn(outputs.state, codes[:, None], (log_coarse + log_fine)[:, None])

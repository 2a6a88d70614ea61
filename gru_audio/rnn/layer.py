"""linen modules: one recurrent layer, and the encoder that stacks them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.dtypes import promote_dtype

from gru_audio.rnn.cells import CELLS, Carry, Cell, Params, Projections
from gru_audio.rnn.initialisers import gate_bias, per_gate
from gru_audio.rnn.names import choose
from gru_audio.rnn.noise import Dropout
from gru_audio.rnn.recurrence import recurrence


class Layer(nn.Module):
    """One recurrent layer in one direction.

    It owns the parameters, which are the same for every implementation of the recurrence:
    ``input_kernel`` (features, gates x hidden), ``input_bias`` (gates x hidden), the recurrent ones
    that the cell names, and with ``layer_norm`` also ``norm_scale`` (gates x hidden).

    ``layer_norm`` normalises the input projection of each gate over its hidden units, frame by
    frame, before the bias: ``norm_scale * (W x - mean) / sqrt(variance + 1e-6) + input_bias``. Ba
    et al. 2016 (arXiv 1607.06450) also normalise the recurrent projection and the LSTM's memory;
    these are left alone here, so that every implementation of the recurrence serves.

    Attributes:
      cell: a key of `gru_audio.rnn.cells.CELLS`.
      hidden: units.
      reverse: run from the last valid frame to the first.
      layer_norm: see above.
      kernel_init, recurrent_init, bias_init: keys of `initialisers.INITIALISERS`; each gate's block
        is drawn by itself. Peepholes are drawn as the biases are.
      forget_bias: added to the first bias of a gate named "f" (Gers et al. 2000).
      implementation: of the recurrence.
      dtype: of the computation; None: as inputs and parameters. Parameters stay float32.
    """

    cell: str
    hidden: int
    reverse: bool = False
    layer_norm: bool = False
    kernel_init: str = "lecun_normal"
    recurrent_init: str = "orthogonal"
    bias_init: str = "zeros"
    forget_bias: float = 1.0
    implementation: str = "auto"
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.Array | None = None, carry: Carry | None = None
    ) -> tuple[jax.Array, Carry]:
        """(batch, time, features) -> outputs (batch, time, hidden) and the final carry."""
        cell = choose("cell", self.cell, CELLS)
        projections = self._project(cell, inputs)
        dtype = projections[0].dtype
        if carry is None:
            carry = cell.initial_carry(len(inputs), self.hidden, dtype)
        outputs, carry = recurrence(
            cell,
            self._recurrent_params(cell, dtype),
            projections,
            tuple(value.astype(dtype) for value in carry),
            lengths,
            reverse=self.reverse,
            implementation=self.implementation,
        )
        return jnp.swapaxes(outputs, 0, 1), carry

    def _project(self, cell: Cell, inputs: jax.Array) -> Projections:
        """All steps' projections, time-major, each gate's by itself: slicing in a scan is slow."""
        batch, time, features = inputs.shape
        gates, width = len(cell.gates), len(cell.gates) * self.hidden
        kernel = self.param("input_kernel", per_gate(self.kernel_init, gates), (features, width))
        bias = self.param(
            "input_bias", gate_bias(self.bias_init, cell.gates, self.forget_bias), (width,)
        )
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        rows = jnp.swapaxes(inputs, 0, 1).reshape(time * batch, features)
        projections = [rows @ block for block in jnp.split(kernel, gates, axis=-1)]
        if self.layer_norm:
            scale = self.param("norm_scale", nn.initializers.ones, (width,)).astype(kernel.dtype)
            projections = [
                jax.nn.standardize(projection, epsilon=1e-6) * block
                for projection, block in zip(projections, jnp.split(scale, gates), strict=True)
            ]
        return tuple(
            (projection + block).reshape(time, batch, self.hidden)
            for projection, block in zip(projections, jnp.split(bias, gates), strict=True)
        )

    def _recurrent_params(self, cell: Cell, dtype: jax.typing.DTypeLike) -> Params:
        params = {}
        for name, gates in cell.kernels.items():
            init = per_gate(self.recurrent_init, len(gates))
            params[name] = self.param(name, init, (self.hidden, len(gates) * self.hidden))
        for name, gates in cell.vectors.items():
            init = per_gate(self.bias_init, len(gates))
            params[name] = self.param(name, init, (len(gates) * self.hidden,))
        return {name: param.astype(dtype) for name, param in params.items()}


@struct.dataclass
class EncoderOutput:
    """What an encoder returns.

    Attributes:
      frames: (batch, time, units); zero past an example's length.
      lengths: int32 (batch,), valid frames.
      carry: final carry, ``carry[layer][direction][i]`` (batch, hidden), ``i`` in the order of the
        cell's `carry`; an encoder takes it back to go on where it stopped.
    """

    frames: jax.Array
    lengths: jax.Array
    carry: tuple[tuple[Carry, ...], ...]


class Encoder(nn.Module):
    """A stack of recurrent layers, forward or in both directions (outputs side by side).

    Attributes are those of `Layer`, and:
      layers: how many.
      bidirectional: each layer reads the frames in both directions.
    """

    hidden: int
    cell: str = "gru"
    layers: int = 1
    bidirectional: bool = False
    layer_norm: bool = False
    kernel_init: str = "lecun_normal"
    recurrent_init: str = "orthogonal"
    bias_init: str = "zeros"
    forget_bias: float = 1.0
    implementation: str = "auto"
    dtype: jax.typing.DTypeLike | None = None

    @property
    def subsampling(self) -> int:
        """Input frames to one output frame."""
        return 1

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        lengths: jax.Array | None = None,
        *,
        carry: tuple[tuple[Carry, ...], ...] | None = None,
        dropout: Dropout | None = None,
    ) -> EncoderOutput:
        """Encodes (batch, time, features).

        Args:
          inputs: frames.
          lengths: int (batch,), valid frames; None: all are.
          carry: to start from, as returned; None: zeros.
          dropout: applied between layers, salted with the number of the layer it feeds.
        """
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        final = []
        frames = inputs
        for layer in range(self.layers):
            if layer and dropout is not None:
                frames = dropout(frames, layer)
            outputs, carries = zip(
                *(
                    self._layer(f"{direction}_{layer}", direction == "backward")(
                        frames, lengths, carry[layer][i] if carry is not None else None
                    )
                    for i, direction in enumerate(directions)
                ),
                strict=True,
            )
            frames = jnp.concatenate(outputs, axis=-1)
            final.append(carries)
        if lengths is None:
            lengths = jnp.full(len(inputs), inputs.shape[1], jnp.int32)
        return EncoderOutput(frames, lengths, tuple(final))

    def _layer(self, name: str, reverse: bool) -> Layer:
        return Layer(
            self.cell,
            self.hidden,
            reverse,
            self.layer_norm,
            self.kernel_init,
            self.recurrent_init,
            self.bias_init,
            self.forget_bias,
            self.implementation,
            self.dtype,
            name=name,
        )

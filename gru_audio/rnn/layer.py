"""linen modules: one recurrent layer, and the encoder that stacks them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.dtypes import canonicalize_dtype

from gru_audio.rnn.cells import CELLS
from gru_audio.rnn.chunks import in_chunks
from gru_audio.rnn.equations import Carry, Cell, Params, Projections, wide_dtype
from gru_audio.rnn.initialisers import INITIALISERS, gate_bias, per_gate
from gru_audio.rnn.noise import Dropout
from gru_audio.rnn.recurrence import IMPLEMENTATIONS, recurrence
from gru_audio.settings import UserError, choose, setting

EncoderCarry = tuple[tuple[Carry, ...], ...]  # by layer and direction


class Layer(nn.Module):
    """One recurrent layer in one direction.

    It owns the parameters, which are the same for every implementation of the recurrence:
    ``input_kernel`` (features, gates x hidden), ``input_bias`` (gates x hidden), the recurrent ones
    that the cell names, and with ``layer_norm`` also ``norm_scale`` (gates x hidden).

    ``layer_norm`` normalises the input projection of each gate over its hidden units, frame by
    frame, before the bias: ``norm_scale * (W x - mean) / sqrt(variance + 1e-6) + input_bias``. Ba
    et al. 2016 (arXiv 1607.06450) also normalise the recurrent projection and the LSTM's memory;
    these are left alone here, so that every implementation of the recurrence serves.

    ``projection`` makes the layer give ``r = h P`` (Sak et al. 2014, arXiv 1402.1128) out of its
    units ``h``: narrower frames, and as the cell reads ``r`` too, smaller recurrent kernels. These
    meet the output in products ``r U = h (P U)`` alone, so the recurrence runs on ``h`` with the
    kernels ``P U``, whatever its implementation: equal numbers, but as many operations as without.

    Attributes:
      cell: a key of `gru_audio.rnn.cells.CELLS`.
      hidden: units.
      reverse: run from the last valid frame to the first.
      layer_norm, projection: see above; 0: no projection.
      kernel_init, recurrent_init, bias_init: keys of `initialisers.INITIALISERS`; each gate's block
        is drawn by itself. Peepholes are drawn as the biases are, a projection as input kernels.
      forget_bias: added to the first bias of a gate named "f" (Gers et al. 2000).
      implementation: of the recurrence.
      remat_frames: the backward pass computes so many frames at a time anew, which saves memory
        where there are many more (see `in_chunks`); 0: it keeps what the forward pass computed.
      dtype: of the computation; None: as inputs and parameters. Parameters and carry stay float32.
    """

    cell: str
    hidden: int
    reverse: bool = False
    layer_norm: bool = False
    projection: int = 0
    kernel_init: str = "lecun_normal"
    recurrent_init: str = "orthogonal"
    bias_init: str = "zeros"
    forget_bias: float = 1.0
    implementation: str = "auto"
    remat_frames: int = 0
    dtype: jax.typing.DTypeLike | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, lengths: jax.Array | None = None, carry: Carry | None = None
    ) -> tuple[jax.Array, Carry]:
        """(batch, time, features) -> outputs (batch, time, units) and the final carry.

        The carry is the cell's, of `hidden` units also where the outputs are projected, and in
        float32 or wider also where the outputs are narrow.
        """
        check_projection(self.cell, self.projection)
        cell = choose("cell", self.cell, CELLS)
        params = self._params(cell, inputs.shape[-1])
        dtype = canonicalize_dtype(inputs, params["input_kernel"], dtype=self.dtype)
        if carry is None:
            carry = cell.initial_carry(len(inputs), self.hidden, dtype)
        recurrent = recurrent_params(cell, params)

        def run(inputs, lengths, carry):
            return recurrence(
                cell,
                recurrent,
                project(params, inputs, len(cell.gates)),
                carry,
                lengths,
                reverse=self.reverse,
                implementation=self.implementation,
            )

        if 0 < self.remat_frames < inputs.shape[1]:
            run = functools.partial(in_chunks, run, frames=self.remat_frames, reverse=self.reverse)
        inputs = jnp.swapaxes(inputs, 0, 1).astype(dtype)
        carry = tuple(value.astype(wide_dtype(dtype)) for value in carry)
        outputs, carry = run(inputs, lengths, carry)
        return self.project_output(jnp.swapaxes(outputs, 0, 1)), carry

    def project_output(self, output: jax.Array) -> jax.Array:
        """What the layer gives for outputs (..., hidden) of its cell, such as a final one."""
        if not self.projection:
            return output
        return output @ self.get_variable("params", "projection").astype(output.dtype)

    def _params(self, cell: Cell, features: int) -> Params:
        gates, width = len(cell.gates), len(cell.gates) * self.hidden
        kernel_init = per_gate(self.kernel_init, gates)
        params = {
            "input_kernel": self.param("input_kernel", kernel_init, (features, width)),
            "input_bias": self.param(
                "input_bias", gate_bias(self.bias_init, cell.gates, self.forget_bias), (width,)
            ),
        }
        if self.layer_norm:
            params["norm_scale"] = self.param("norm_scale", nn.initializers.ones, (width,))
        units = self.hidden
        if self.projection:
            units = self.projection
            init = per_gate(self.kernel_init, 1)
            params["projection"] = self.param("projection", init, (self.hidden, units))
        for name, blocks in cell.kernels.items():
            init = per_gate(self.recurrent_init, len(blocks))
            params[name] = self.param(name, init, (units, len(blocks) * self.hidden))
        for name, blocks in cell.vectors.items():
            init = per_gate(self.bias_init, len(blocks))
            params[name] = self.param(name, init, (len(blocks) * self.hidden,))
        return params


def check_projection(cell: str, projection: int) -> None:
    """Raises `UserError` where the cell's output is not to be projected, but would be."""
    if projection and not choose("cell", cell, CELLS).projectable:
        able = ", ".join(f'"{name}"' for name, cell in CELLS.items() if cell.projectable)
        raise UserError(
            f'config.model.cell="{cell}" reads its old output unprojected: set '
            f"config.model.projection=0, or take one of {able}."
        )


def recurrent_params(cell: Cell, params: Params) -> dict[str, jax.Array]:
    """The parameters that the cell's equations use, of those of a layer."""
    recurrent = {name: params[name] for name in (*cell.kernels, *cell.vectors)}
    if "projection" in params:
        recurrent |= {name: params["projection"] @ params[name] for name in cell.kernels}
    return recurrent


def project(params: Params, inputs: jax.Array, gates: int) -> Projections:
    """All steps' projections, time-major, each gate's by itself: slicing in a scan is slow.

    Products are in the type of the inputs; norm and bias, whose gradients are sums over all frames,
    in that of the parameters.
    """
    time, batch, features = inputs.shape
    rows = inputs.reshape(time * batch, features)
    kernel, bias = params["input_kernel"], params["input_bias"]
    blocks = jnp.split(kernel.astype(inputs.dtype), gates, axis=-1)
    projections = [(rows @ block).astype(bias.dtype) for block in blocks]
    if "norm_scale" in params:
        projections = [
            jax.nn.standardize(projection, epsilon=1e-6) * scale
            for projection, scale in zip(
                projections, jnp.split(params["norm_scale"], gates), strict=True
            )
        ]
    return tuple(
        (projection + block).astype(inputs.dtype).reshape(time, batch, -1)
        for projection, block in zip(projections, jnp.split(bias, gates), strict=True)
    )


@struct.dataclass
class EncoderOutput:
    """What an encoder returns.

    Attributes:
      frames: (batch, time, units); zero past an example's length.
      lengths: int32 (batch,), valid frames.
      last: (batch, units); in each direction the frame that has seen every other.
      carry: final carry, ``carry[layer][direction][i]`` (batch, hidden), ``i`` in the order of the
        cell's `carry`; an encoder takes it back to go on where it stopped. Empty for what is
        not recurrent.
    """

    frames: jax.Array
    lengths: jax.Array
    last: jax.Array
    carry: EncoderCarry = ()


class Encoder(nn.Module):
    """A stack of recurrent layers, forward or in both directions (outputs side by side).

    Attributes are those of `Layer`, `layers` and `bidirectional`.
    """

    hidden: int = setting(128, low=1, high=2**16, unit="units", doc="Units of a layer.")
    cell: str = setting("gru", choices=CELLS, doc="The cell.")
    layers: int = setting(1, low=1, high=64, doc="Layers.")
    bidirectional: bool = setting(False, doc="Each layer reads the frames in both directions.")
    layer_norm: bool = setting(False, doc="Normalise each gate's input projection over its units.")
    projection: int = setting(
        0,
        low=0,
        high=2**16,
        unit="units",
        when=("cell", lambda name: CELLS[name].projectable),
        doc="The width to which a layer's output is projected; 0: it is not.",
    )
    kernel_init: str = setting(
        "lecun_normal", choices=INITIALISERS, doc="What the input weights begin with."
    )
    recurrent_init: str = setting(
        "orthogonal", choices=INITIALISERS, doc="What the recurrent weights begin with."
    )
    bias_init: str = "zeros"
    forget_bias: float = setting(
        1.0,
        low=-1e6,
        high=1e6,
        when=("cell", lambda name: "f" in CELLS[name].gates),
        doc="What the bias of a forget gate begins with.",
    )
    implementation: str = setting(
        "auto", choices=IMPLEMENTATIONS, doc="How the recurrence runs; all give the same numbers."
    )
    remat_frames: int = setting(
        0,
        low=0,
        high=2**31 - 1,
        unit="frames",
        doc="The backward pass computes this many frames again at a time; 0: it keeps all.",
    )
    dtype: jax.typing.DTypeLike | None = None

    @property
    def subsampling(self) -> int:
        """Input frames to one output frame."""
        return 1

    def initial_carry(self, batch: int) -> EncoderCarry:
        """The carry of `batch` examples before their first frame: zeros."""
        cell, dtype = choose("cell", self.cell, CELLS), self.dtype or jnp.float32
        one = cell.initial_carry(batch, self.hidden, dtype)
        return tuple(((one,) * len(self._directions)) for _ in range(self.layers))

    @property
    def _directions(self) -> tuple[str, ...]:
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        lengths: jax.Array | None = None,
        *,
        carry: EncoderCarry | None = None,
        dropout: Dropout | None = None,
    ) -> EncoderOutput:
        """Encodes (batch, time, features).

        Args:
          inputs: frames.
          lengths: int (batch,), valid frames; None: all are.
          carry: to start from, as returned; None: zeros.
          dropout: applied between layers, salted with the number of the layer it feeds.
        """
        final = []
        frames = inputs
        for layer in range(self.layers):
            if layer and dropout is not None:
                frames = dropout(frames, layer)
            outputs, last, carries = [], [], []
            for i, direction in enumerate(self._directions):
                run = self._layer(f"{direction}_{layer}", direction == "backward")
                output, end = run(frames, lengths, carry[layer][i] if carry is not None else None)
                outputs.append(output)
                last.append(run.project_output(end[0].astype(output.dtype)))
                carries.append(end)
            frames = jnp.concatenate(outputs, axis=-1)
            final.append(tuple(carries))
        if lengths is None:
            lengths = jnp.full(len(inputs), inputs.shape[1], jnp.int32)
        return EncoderOutput(frames, lengths, jnp.concatenate(last, axis=-1), tuple(final))

    def _layer(self, name: str, reverse: bool) -> Layer:
        return Layer(
            self.cell,
            self.hidden,
            reverse,
            self.layer_norm,
            self.projection,
            self.kernel_init,
            self.recurrent_init,
            self.bias_init,
            self.forget_bias,
            self.implementation,
            self.remat_frames,
            self.dtype,
            name=name,
        )

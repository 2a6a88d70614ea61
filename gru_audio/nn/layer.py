"""linen modules: one recurrent layer, the encoder that stacks layers, and dropout."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.dtypes import canonicalize_dtype

from gru_audio.nn.cells import CELLS
from gru_audio.nn.equations import Carry, Cell, Params, Projections, wide_dtype
from gru_audio.nn.initialisers import INITIALISERS, gate_bias, per_gate
from gru_audio.nn.recurrence import IMPLEMENTATIONS, in_chunks, recurrence
from gru_audio.settings import UserError, choose, setting

EncoderCarry = tuple[tuple[Carry, ...], ...]  # by layer and direction


class Layer(nn.Module):
    """One recurrent layer in one direction.

    The parameters are the same for every implementation of the recurrence: ``input_kernel``
    (features, gates x hidden), ``input_bias`` (gates x hidden), the recurrent parameters of the
    cell, and with ``layer_norm`` also ``norm_scale`` (gates x hidden).

    ``layer_norm`` normalises the input projection of each gate over its hidden units, for each
    frame, before the bias: ``norm_scale * (W x - mean) / sqrt(variance + 1e-6) + input_bias``. Ba
    et al. 2016 (arXiv 1607.06450) also normalise the recurrent projection and the memory of the
    LSTM. This layer does not, so that every implementation of the recurrence can run it.

    With ``projection`` the outputs are ``r = h P`` (Sak et al. 2014, arXiv 1402.1128), where ``h``
    are the hidden units. This makes the outputs narrower. The cell reads ``r``, too, so the
    recurrent kernels are smaller. Since ``r U = h (P U)``, the recurrence runs on ``h`` with the
    kernels ``P U``. The results are equal, and the number of operations is that of a layer without
    projection.

    Attributes:
      cell: a key of `gru_audio.nn.cells.CELLS`.
      hidden: number of hidden units.
      reverse: run from the last valid frame to the first.
      layer_norm: see above.
      projection: number of output units, see above; 0: no projection.
      kernel_init, recurrent_init, bias_init: keys of `initialisers.INITIALISERS`. Each gate's block
        is initialised separately. `bias_init` also applies to peepholes, and `kernel_init` to the
        projection.
      forget_bias: added to the input bias of a gate named "f" (Gers et al. 2000).
      implementation: a key of `gru_audio.nn.recurrence.IMPLEMENTATIONS`.
      remat_frames: the backward pass recomputes this many frames at a time, which saves memory for
        long inputs (see `in_chunks`); 0: it stores all activations.
      dtype: of the computation; None: that of inputs and parameters. Parameters and carry stay
        float32.
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
        """Runs the layer.

        Args:
          inputs: (batch, time, features).
          lengths: int (batch,), valid frames; None: all frames are valid.
          carry: the initial carry, (batch, hidden) each; None: zeros.

        Returns:
          The outputs (batch, time, units), and the final carry, (batch, hidden) each, in float32 or
          wider. A projection does not change the carry.

        Raises:
          UserError: a name is unknown, or the cell cannot have a projection.
        """
        check_projection(self.cell, self.projection)
        cell = choose("cell", self.cell, CELLS)
        params = self._params(cell, inputs.shape[-1])
        dtype = canonicalize_dtype(inputs, params["input_kernel"], dtype=self.dtype)
        if carry is None:
            carry = cell.initial_carry(inputs.shape[0], self.hidden, dtype)
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
        """Projects outputs (..., hidden) of the cell, such as the final carry's."""
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
    """Raises `UserError` if there is a projection and the cell does not allow one."""
    if projection and not choose("cell", cell, CELLS).projectable:
        allowed = ", ".join(f'"{name}"' for name, cell in CELLS.items() if cell.projectable)
        raise UserError(
            f'config.model.cell="{cell}" does not allow a projection: set '
            f"config.model.projection=0, or choose one of {allowed}."
        )


def recurrent_params(cell: Cell, params: Params) -> dict[str, jax.Array]:
    """Selects the parameters of the cell's equations, and multiplies a projection into them."""
    recurrent = {name: params[name] for name in (*cell.kernels, *cell.vectors)}
    if "projection" in params:
        recurrent |= {name: params["projection"] @ params[name] for name in cell.kernels}
    return recurrent


def project(params: Params, inputs: jax.Array, gates: int) -> Projections:
    """Computes the input projections of all frames.

    Products have the type of the inputs. Normalisation and bias have the type of the parameters,
    because their gradients are sums over all frames.

    Args:
      params: of the layer.
      inputs: (time, batch, features).
      gates: number of gates.

    Returns:
      One array (time, batch, hidden) per gate, because slicing inside a scan is slow.
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
class Dropout:
    """Inverted dropout (Srivastava et al. 2014) with one random key per example.

    The mask of an example depends only on its key, the salt and the frame. It does not depend on
    the other examples of the batch, or on the padding. The rate may be traced, so that runs with
    different rates share a compiled program; linen's dropout needs a Python number.

    Attributes:
      keys: typed PRNG keys (batch,).
      rate: probability of setting a value to zero, in [0, 1].
    """

    keys: jax.Array
    rate: jax.typing.ArrayLike

    def __call__(self, x: jax.Array, salt: int) -> jax.Array:
        """Sets values of ``x`` to zero, and scales the others by 1 / (1 - rate).

        Args:
          x: (batch, units) or (batch, time, ...).
          salt: gives different masks to places of a model that use the same keys.
        """
        keys = jax.vmap(jax.random.fold_in, (0, None))(self.keys, salt)
        if x.ndim > 2:
            frames = jnp.arange(x.shape[1])
            keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(keys, frames)
        units = x.shape[keys.ndim :]
        uniform = jax.vmap(lambda key: jax.random.uniform(key, units))(keys.reshape(-1))
        keep = uniform.reshape(x.shape) >= self.rate
        return jnp.where(keep, x / (1 - jnp.asarray(self.rate, x.dtype)), 0)


@struct.dataclass
class EncoderOutput:
    """The result of an encoder.

    Attributes:
      frames: (batch, time, units); zero past an example's length.
      lengths: int32 (batch,), valid frames.
      last: (batch, units); for each direction the output of the step that ran last.
      carry: final carry: ``carry[layer][direction][i]`` is (batch, hidden), with ``i`` in the order
        of the cell's `carry`. As the initial carry of the next call it continues the sequence.
        Empty for encoders that are not recurrent.
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
        doc="Width of the projection of a layer's output; 0: no projection.",
    )
    kernel_init: str = setting("lecun_normal", choices=INITIALISERS, doc="Initial input weights.")
    recurrent_init: str = setting(
        "orthogonal", choices=INITIALISERS, doc="Initial recurrent weights."
    )
    bias_init: str = "zeros"
    forget_bias: float = setting(
        1.0,
        low=-1e6,
        high=1e6,
        when=("cell", lambda name: "f" in CELLS[name].gates),
        doc="Initial bias of a forget gate.",
    )
    implementation: str = setting(
        "auto",
        choices=IMPLEMENTATIONS,
        doc="Implementation of the recurrence; all compute the same results.",
    )
    remat_frames: int = setting(
        0,
        low=0,
        high=2**31 - 1,
        unit="frames",
        doc="The backward pass recomputes this many frames at a time; 0: it stores everything.",
    )
    dtype: jax.typing.DTypeLike | None = None

    def initial_carry(self, batch: int) -> EncoderCarry:
        """Returns the carry before the first frame: zeros, (batch, hidden) each."""
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
        """Encodes a batch.

        Args:
          inputs: frames (batch, time, features).
          lengths: int (batch,), valid frames; None: all frames are valid.
          carry: the initial carry, as in `EncoderOutput`; None: zeros.
          dropout: applied to the input of each layer but the first; the layer number is the salt.
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
            lengths = jnp.full(inputs.shape[0], inputs.shape[1], jnp.int32)
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

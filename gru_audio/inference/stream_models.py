"""Models that run in pieces: their layers as stages of a stream, recurrence, pooling and head."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.inference.stream_stages import (
    Chain,
    Span,
    Stage,
    Window,
    Windowed,
    left_aligned,
)
from gru_audio.nn.batch_norm import BatchNorm
from gru_audio.nn.cnn import CnnClassifier
from gru_audio.nn.conv import Block, ConvFront
from gru_audio.nn.convolution import convolution
from gru_audio.nn.crnn import CrnnClassifier
from gru_audio.nn.layer import EncoderOutput
from gru_audio.nn.model import Model
from gru_audio.nn.rnn_classifier import RnnClassifier
from gru_audio.nn.tcn import CausalConv, TcnClassifier
from gru_audio.settings import UserError

Variables = Mapping[str, Any]  # the parameters and the other collections of a model


class Pieces(NamedTuple):
    """The outputs of a piece of S streams.

    Attributes:
      values: logits (S, n, outputs), in float32.
      counts: how many of them are new outputs of each stream, int32 (S,): the first ones. With one
        output for a whole clip, n is 1: the output for all frames so far, if there are new ones.
    """

    values: jax.Array
    counts: jax.Array


@dataclass(frozen=True)
class Pooling:
    """A pooling over the frames so far.

    Attributes:
      initial: ``(streams, units, dtype)`` -> the state before the first frame.
      update: ``(state, encoded, params)`` -> the state after more frames, and the pooled vector (S,
        units); `params` are those of the head.
    """

    initial: Callable[..., Any]
    update: Callable[[Any, EncoderOutput, Variables], tuple[Any, jax.Array]]


def _valid(encoded: EncoderOutput) -> jax.Array:
    return (jnp.arange(encoded.frames.shape[1]) < encoded.lengths[:, None])[..., None]


def _last(state: tuple[()], encoded: EncoderOutput, _: Variables) -> tuple[tuple[()], jax.Array]:
    return state, encoded.last


def _mean(state, encoded: EncoderOutput, _: Variables):
    mean, count = state
    count = count + encoded.lengths[:, None].astype(count.dtype)
    difference = jnp.where(_valid(encoded), encoded.frames - mean[:, None], 0).sum(1)
    mean = mean + difference / jnp.maximum(count, 1)
    return (mean, count), mean


def _maximum(state, encoded: EncoderOutput, _: Variables):
    found = jnp.where(_valid(encoded), encoded.frames, -jnp.inf).max(1)
    state = jnp.maximum(state, found.astype(state.dtype))
    return state, state


def _attention(state, encoded: EncoderOutput, params: Variables):
    """Updates the largest score, and the sums of weights and of weighted frames."""
    top, weight, total = state
    score = encoded.frames @ params["attention"]["kernel"]
    valid = _valid(encoded)
    higher = jnp.maximum(top, jnp.where(valid, score, -jnp.inf).max(1).astype(top.dtype))
    exponentials = jnp.where(valid, jnp.exp(score - higher[:, None]), 0)
    shrunk = jnp.exp(top - higher)
    weight = shrunk * weight + exponentials.sum(1)
    total = shrunk * total + (exponentials * encoded.frames).sum(1)
    return (higher, weight, total), total / jnp.maximum(weight, jnp.finfo(weight.dtype).tiny)


POOLINGS: Mapping[str, Pooling] = {
    "last": Pooling(lambda streams, units, dtype: (), _last),
    "mean": Pooling(
        lambda streams, units, dtype: (
            jnp.zeros((streams, units), dtype),
            jnp.zeros((streams, 1), dtype),
        ),
        _mean,
    ),
    "max": Pooling(
        lambda streams, units, dtype: jnp.full((streams, units), -jnp.inf, dtype), _maximum
    ),
    "attention": Pooling(
        lambda streams, units, dtype: (
            jnp.full((streams, 1), jnp.finfo(dtype).min),
            jnp.zeros((streams, 1), dtype),
            jnp.zeros((streams, units), dtype),
        ),
        _attention,
    ),
}


@dataclass(frozen=True, eq=False)
class StreamModel:
    """A model that runs in pieces. A state is (state of the layers, encoder and pooling).

    Attributes:
      layers: stages before the encoder; their source is the normalised features.
      encode: ``(carry, frames (S, n, units), counts (S,))`` -> `EncoderOutput`.
      initial_carry: ``(streams, units, dtype)`` -> the carry before the first frame; `units` are
        those of its source.
      pooling: None: an output for every frame.
      head: maps an `EncoderOutput` to logits (S, n, outputs), without pooling.
      params: parameters of the pooling.
    """

    layers: Chain
    encode: Callable[[Any, jax.Array, jax.Array], EncoderOutput]
    initial_carry: Callable[[int, int, Any], Any]
    pooling: Pooling | None
    head: Callable[[EncoderOutput], jax.Array]
    params: Variables

    def initial(self, source: Span) -> tuple[Any, ...]:
        """Returns the state before the first piece; `source` has shapes and dtypes only."""
        layers = self.layers.initial(source)
        _, span = jax.eval_shape(self.layers, layers, source)
        streams, _, units = span.values.shape
        dtype = jnp.promote_types(span.values.dtype, jnp.float32)
        carry = self.initial_carry(streams, units, dtype)
        if self.pooling is None:
            return layers, carry, ()
        encoded = jax.eval_shape(self.encode, carry, span.values, span.begin)
        return layers, carry, self.pooling.initial(streams, encoded.last.shape[-1], dtype)

    def __call__(self, state: tuple[Any, ...], span: Span) -> tuple[tuple[Any, ...], Pieces]:
        """Returns the new state and the outputs for the next features (S, n, features)."""
        layers, carry, pooled = state
        layers, span = self.layers(layers, span)
        frames, counts = left_aligned(span, self.layers.delay)
        encoded = self.encode(carry, frames, counts)
        carry = encoded.carry
        if self.pooling is not None:
            pooled, vector = self.pooling.update(pooled, encoded, self.params)
            encoded = EncoderOutput(vector[:, None], encoded.lengths, vector)
            counts = jnp.minimum(counts, 1)
        return (layers, carry, pooled), Pieces(self.head(encoded), counts)


def stream_model(
    model: Model, variables: Variables, per_frame: bool, source_delay: int = 0
) -> StreamModel:
    """Returns a model that runs in pieces.

    Args:
      model: the model.
      variables: its parameters and statistics.
      per_frame: whether it has an output for every frame.
      source_delay: the delay of the features.

    Raises:
      UserError: the model needs later frames without a bound. The message names the setting.
    """
    own = type(model) not in (RnnClassifier, CrnnClassifier, CnnClassifier, TcnClassifier)
    pooling = None if per_frame else getattr(getattr(model, "head", None), "pooling", "last")
    suited = ("last",) if own else tuple(POOLINGS)
    if pooling not in (None, *suited):
        raise UserError(
            f'config.model.pooling="{pooling}" needs the whole clip: train the model with '
            f"{' or '.join(suited)}."
        )
    if own:
        return _own_model(model, variables, per_frame, source_delay)
    assert isinstance(model, RnnClassifier | CrnnClassifier | CnnClassifier | TcnClassifier)
    params = variables["params"]
    layers: tuple[Stage, ...] = ()
    encode: Any
    encode, initial_carry = _same, lambda streams, units, dtype: jnp.zeros((streams, units), dtype)
    if isinstance(model, CrnnClassifier | CnnClassifier):
        statistics = variables.get("batch_stats", {}).get("front", {})
        layers = _convolutions(model.front, params["front"], statistics, source_delay)
    if isinstance(model, TcnClassifier):
        layers = _temporal_convolutions(model, params["encoder"], source_delay)
    if isinstance(model, RnnClassifier | CrnnClassifier):
        encoder = model.encoder.clone(parent=None, name=None)
        if encoder.bidirectional:
            raise UserError(
                "A bidirectional model reads sound from its end: train it with "
                "config.model.bidirectional=False."
            )

        def encode(carry, frames, counts):
            return encoder.apply({"params": params["encoder"]}, frames, counts, carry=carry)

        def initial_carry(streams, units, dtype):
            del units
            carry = encoder.initial_carry(streams)
            return jax.tree.map(lambda zero: zero.astype(dtype), carry)

    head = model.head.clone(pooling=None, parent=None, name=None)
    return StreamModel(
        Chain(layers, source_delay),
        encode,
        initial_carry,
        None if pooling is None else POOLINGS[pooling],
        functools.partial(head.apply, {"params": params["head"]}),  # type: ignore[arg-type]
        params["head"],
    )


def _own_model(model: Model, variables: Variables, per_frame: bool, delay: int) -> StreamModel:
    """Returns a model of an experiment file, which has a state of its own."""
    model.initial_state(1)  # raises an error if there is none

    def encode(state: Any, frames: jax.Array, counts: jax.Array) -> EncoderOutput:
        outputs: Any = model.apply(variables, frames, counts, state=state)
        values = outputs.values if per_frame else outputs.values[:, None]
        return EncoderOutput(values, counts, values[:, -1], outputs.state)

    return StreamModel(
        Chain((), delay),
        encode,
        lambda streams, units, dtype: model.initial_state(streams),
        None if per_frame else POOLINGS["last"],
        lambda encoded: encoded.frames,
        {},
    )


def _same(last: jax.Array, frames: jax.Array, counts: jax.Array) -> EncoderOutput:
    """Encodes frames as themselves; the carry is the last frame."""
    index = jnp.maximum(counts - 1, 0)[:, None, None]
    newest = jnp.take_along_axis(frames, index, axis=1)[:, 0].astype(last.dtype)
    last = jnp.where(counts[:, None] > 0, newest, last)
    carry: Any = last
    return EncoderOutput(frames, counts, last, carry)


@dataclass(frozen=True, eq=False)
class Map:
    """A stage without a state: a function of single frames."""

    function: Callable[[jax.Array], jax.Array]
    delay: int
    windows: tuple[Window, ...] = ()

    def initial(self, source: Span) -> tuple[()]:
        return ()

    def __call__(self, state: tuple[()], span: Span) -> tuple[tuple[()], Span]:
        return state, span._replace(values=self.function(span.values))


def _convolutions(
    front: ConvFront, params: Variables, statistics: Variables, delay: int
) -> tuple[Stage, ...]:
    """Returns the stages of a `ConvFront`."""

    def images(x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], front.channels, -1).swapaxes(2, 3)

    stages: list[Stage] = [Map(images, delay)]
    for i, block in enumerate(front.blocks):
        norm = {}
        if front.norm:
            norm = {"params": params[f"norm_{i}"], "batch_stats": statistics[f"norm_{i}"]}
        stages.append(_convolution(front, block, params[f"conv_{i}"], norm, stages[-1].delay))
        stages.append(_max_pool(block, front.padding == "same", stages[-1].delay))
    flat = Map(lambda x: x.reshape(*x.shape[:2], -1), stages[-1].delay)
    return (*stages, flat)


def _convolution(
    front: ConvFront, block: Block, params: Variables, norm: Variables, delay: int
) -> Windowed:
    """Returns a convolution with batch norm and ReLU; `norm` are the variables of batch norm."""
    same = front.padding == "same"
    time, bands = block.kernel
    conv = nn.Conv(
        block.channels,
        block.kernel,
        block.stride,
        ((0, 0), ((bands - 1) // 2, bands // 2) if same else (0, 0)),
        use_bias=not norm,
        conv_general_dilated=convolution,
        dtype=front.dtype,
    )

    def function(x: Any) -> jax.Array:
        x = conv.apply({"params": params}, x)
        if norm:
            x = BatchNorm().apply(norm, x, jnp.ones(x.shape[:2], bool), train=False)
        return nn.relu(x)

    window = Window((time - 1) // 2 if same else 0, time, block.stride[0])
    return Windowed(function, window, delay, whole=not same)


def _max_pool(block: Block, same: bool, delay: int) -> Windowed:
    """Returns max-pooling of non-negative values, for which zeros are silence."""
    high, wide = block.pool

    def function(x: jax.Array) -> jax.Array:
        rows, bands = x.shape[1] // high, x.shape[2]
        columns = -(-bands // wide) if same else max(1, bands // wide)
        x = x[:, : rows * high, : columns * wide]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, columns * wide - x.shape[2]), (0, 0)))
        return x.reshape(x.shape[0], rows, high, columns, wide, -1).max((2, 4))

    return Windowed(function, Window(0, high, high), delay, whole=not same)


@dataclass(frozen=True, eq=False)
class Residual:
    """A `ResidualBlock`: two convolutions, to which the input is added.

    Attributes:
      convolutions: the convolutions, which do not look ahead.
      shortcut: the map of the input.
    """

    convolutions: Chain
    shortcut: Callable[[jax.Array], jax.Array]

    @property
    def windows(self) -> tuple[Window, ...]:
        return self.convolutions.windows

    @property
    def delay(self) -> int:
        return self.convolutions.delay

    def initial(self, source: Span) -> tuple[Any, ...]:
        return self.convolutions.initial(source)

    def __call__(self, state: tuple[Any, ...], span: Span) -> tuple[tuple[Any, ...], Span]:
        state, outputs = self.convolutions(state, span)
        values = nn.relu(outputs.values + self.shortcut(span.values))
        return state, span._replace(values=values)


def _temporal_convolutions(
    model: TcnClassifier, params: Variables, delay: int
) -> tuple[Stage, ...]:
    """Returns the stages of a `TcnEncoder`."""
    blocks = []
    for i in range(model.layers):
        own, convolutions = params[f"block_{i}"], []
        for j in range(2):
            before = (model.kernel - 1) * 2**i
            conv = CausalConv(model.hidden, model.kernel, 2**i, dtype=model.dtype)
            function = functools.partial(_causal, conv, own[f"conv_{j}"], before)
            convolutions.append(Windowed(function, Window(before, before + 1), delay))
        shortcut: Any = _identity
        if "shortcut" in own:
            dense = nn.Dense(model.hidden, dtype=model.dtype)
            shortcut = functools.partial(dense.apply, {"params": own["shortcut"]})
        blocks.append(Residual(Chain(tuple(convolutions), delay), shortcut))
    return tuple(blocks)


def _causal(conv: CausalConv, params: Variables, before: int, x: jax.Array) -> jax.Array:
    """Applies a causal convolution to frames, of which it only reads the first `before`."""
    y: Any = conv.apply({"params": params}, x[:, before:], x[:, :before])
    return nn.relu(y)


def _identity(x: jax.Array) -> jax.Array:
    return x

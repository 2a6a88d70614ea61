"""SampleRNN: recurrent layers over frames of samples, above a network that sees single samples.

Mehri et al. 2017 (arXiv 1612.07837). Unlike there, the initial state is zero, and only the layer
that reads samples has weight normalisation.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gru_audio.nn.generative import (
    EMBEDDING,
    INPUTS,
    Choice,
    CodeInput,
    Conditioned,
    Drawn,
    SampleModel,
    dropout_of,
    scaled,
    silence,
)
from gru_audio.nn.head import Head
from gru_audio.nn.layer import Dropout, Encoder, EncoderCarry, EncoderOutput
from gru_audio.nn.model import Outputs
from gru_audio.nn.tcn import CausalConv
from gru_audio.settings import UserError, part, setting

_LARGEST = 2**12  # samples of a frame


def parse_frames(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Parses the frame sizes of the tiers, the highest tier first.

    Raises:
      UserError: there is none, or a size is not a multiple of the next one.
    """
    right = all(text.isdecimal() and 1 < int(text) <= _LARGEST for text in texts)
    sizes = tuple(map(int, texts)) if right else ()
    if not sizes or any(a % b or a == b for a, b in itertools.pairwise(sizes)):
        raise UserError(
            f"config.model.frames={','.join(texts)}: write the samples of a frame of each tier, "
            'each a multiple of the next, from 2 on: "16" for two tiers, "8,2" for three.'
        )
    return sizes


class FrameTier(nn.Module):
    """Recurrent layers over frames of samples. Each frame conditions the next `size` samples.

    Attributes:
      encoder: the layers.
      levels: number of values of a code.
      ratio: number of conditioning vectors per frame, one for each frame, or sample, of the tier
        below. A linear map of its own computes each of them.
    """

    encoder: Encoder
    levels: int
    ratio: int

    @nn.compact
    def __call__(
        self,
        codes: jax.Array,
        above: jax.Array | None,
        condition: jax.Array,
        carry: EncoderCarry,
        dropout: Dropout | None = None,
    ) -> tuple[jax.Array, EncoderCarry]:
        """Returns conditioning vectors (batch, ratio x frames, hidden) and the final carry.

        Args:
          codes: (batch, frames, size).
          above: conditioning vectors of the tier above (batch, frames, hidden); None: there is no
            such tier.
          condition: (batch, classes).
          carry: initial carry of the encoder.
          dropout: applied between layers.
        """
        batch, frames, _ = codes.shape
        width, dtype = self.encoder.hidden, self.encoder.dtype
        x = nn.Dense(width, dtype=dtype, name="input")(scaled(codes, self.levels))
        x = Conditioned(name="condition")(x if above is None else x + above, condition)
        encoded = self.encoder(x, None, carry=carry, dropout=dropout)
        vectors = nn.Dense(self.ratio * width, dtype=dtype, name="upsample")(encoded.frames)
        return vectors.reshape(batch, frames * self.ratio, width), encoded.carry


class SampleRnn(SampleModel):
    """Predicts the next sample with two or more tiers.

    The lowest tier is a multilayer perceptron, which sees the last samples, as many as a frame of
    the tier above has. Frames must be complete, so a piece of the sequence has a multiple of
    `stride` samples.

    Attributes:
      encoder: the recurrent layers of each tier of frames, with own weights in each.
      head: computes the logits; its dense layers are added to the two of the paper.
      input, embedding: how the perceptron reads samples; see `CodeInput`.
      frames: samples per frame of each tier, the highest tier first.
    """

    encoder: Encoder = part(Encoder)
    head: Head = part(Head)
    input: str = setting(EMBEDDING, choices=INPUTS, doc="A learned vector per code, or its value.")
    embedding: int = setting(64, low=1, high=2**12, unit="units", doc="Width of that input.")
    frames: tuple[int, ...] = setting(
        ("16",),
        high=4,
        parse=parse_frames,
        doc='Samples per frame of each tier, the highest first: "16", or "8,2" for three tiers.',
    )

    @property
    def recurrent(self) -> tuple[str, ...]:  # type: ignore[override]
        """The tiers of frames."""
        return tuple(f"tiers_{i}" for i in range(len(self.frames)))

    @property
    def look_ahead(self) -> str:
        """See `Model.look_ahead`. Bidirectional layers read later samples."""
        return "config.model.bidirectional=False" if self.encoder.bidirectional else ""

    @property
    def stride(self) -> int:
        """The samples of a frame of the highest tier."""
        return self.frames[0]

    def initial_state(self, batch: int) -> dict[str, Any]:
        """Returns `history`, silence before the last sample, and each tier's `carry`: zeros."""
        history = jnp.full((batch, self.stride - 1), silence(1, self.levels)[0])
        carry = (self.encoder.initial_carry(batch),) * len(self.frames)
        return {"history": history, "carry": carry}

    def setup(self) -> None:
        below = (*self.frames[1:], 1)
        self.tiers = [
            FrameTier(self.encoder.clone(parent=None), self.levels, size // next_size)
            for size, next_size in zip(self.frames, below, strict=True)
        ]
        hidden, dtype = self.encoder.hidden, self.encoder.dtype
        self.read = CodeInput(self.levels, self.embedding, self.input)
        self.window = CausalConv(hidden, self.frames[-1], dtype=dtype)
        self.conditioned = Conditioned()
        self.dense = [nn.Dense(hidden, dtype=dtype) for _ in range(2)]

    def frame_tier(self, tier: int, *arguments: Any) -> tuple[jax.Array, EncoderCarry]:
        """Runs a tier of frames; see `FrameTier`."""
        return self.tiers[tier](*arguments)

    def sample_tier(
        self,
        codes: jax.Array,
        above: jax.Array,
        condition: jax.Array,
        dropout: Dropout | None = None,
    ) -> jax.Array:
        """Returns logits (batch, samples, levels).

        Args:
          codes: of the samples that the first one sees, and all others but the last one,
            (batch, size - 1 + samples), where a frame of the tier above has `size` samples.
          above: conditioning vectors (batch, samples, hidden).
          condition: (batch, classes).
          dropout: applied before the output.
        """
        x, before = self.read(codes), self.frames[-1] - 1
        x = self.window(x[:, before:], x[:, :before])
        x = self.conditioned(x + above, condition)
        for layer in self.dense:
            x = nn.relu(layer(x))
        lengths = jnp.full(len(x), x.shape[1])
        return self.head(EncoderOutput(x, lengths, x[:, -1]), dropout)

    def __call__(
        self,
        features: jax.Array,
        lengths: jax.Array | None,
        *,
        state: dict[str, Any] | None = None,
        train: bool = False,
        dropout: Dropout | None = None,
    ) -> Outputs:
        """See `SampleModel`. A whole sequence may have any length, a piece of one may not."""
        del train  # there is no batch norm
        batch, time = features.shape[:2]
        missing = -time % self.stride
        if state is not None and missing:
            raise ValueError(f"A piece of {time} samples does not have frames of {self.stride}.")
        state = self.initial_state(batch) if state is None else state
        codes = jnp.pad(features[..., 0], ((0, 0), (0, missing))).astype(jnp.int32)
        seen = jnp.concatenate([state["history"], codes], axis=1)
        condition, above, carries = features[:, 0, 1:], None, []
        for i, size in enumerate(self.frames):
            first = self.stride - size
            cut = seen[:, first : first + codes.shape[1]].reshape(batch, -1, size)
            above, carry = self.frame_tier(
                i, cut, above, condition, state["carry"][i], dropout_of(dropout, i + 1)
            )
            carries.append(carry)
        assert above is not None
        logits = self.sample_tier(seen[:, self.stride - size :], above, condition, dropout)
        if lengths is None:
            lengths = jnp.full(batch, time)
        after = {"history": seen[:, codes.shape[1] :], "carry": tuple(carries)}
        return Outputs(logits[:, :time], lengths, after)

    def draw(
        self,
        variables: Any,
        state: dict[str, Any],
        previous: jax.Array,
        condition: jax.Array,
        choose: Choice,
        needed: jax.Array,
    ) -> Drawn:
        """See `SampleModel`. A tier of frames runs once in a frame, the tier below within it."""

        def run(tier: int, seen: jax.Array, above: Any, carries: Any, needed: jax.Array) -> Any:
            """Draws the samples of one frame of a tier; `seen` are the last samples."""
            if tier == len(self.frames):
                seen_here = seen[:, -self.frames[-1] :]
                logits: Any = self.apply(
                    variables, seen_here, above, condition, method=SampleRnn.sample_tier
                )
                code, log_probability = choose(logits[:, 0], needed[:, 0, 0])
                seen = jnp.concatenate([seen[:, 1:], code[:, None]], axis=1)
                return (seen, ()), (code[:, None], log_probability[:, None])

            own, *lower = carries
            cut = seen[:, None, -self.frames[tier] :]
            vectors, own = self.apply(
                variables, tier, cut, above, condition, own, method=SampleRnn.frame_tier
            )

            def step(carry: Any, part: Any) -> Any:
                return run(tier + 1, carry[0], part[0][:, None], carry[1], part[1])

            batch, ratio = vectors.shape[:2]
            parts = needed.reshape(batch, ratio, -1, *needed.shape[2:])
            by_time = jnp.swapaxes(vectors, 0, 1), jnp.swapaxes(parts, 0, 1)
            (seen, lower), drawn = jax.lax.scan(step, (seen, tuple(lower)), by_time)
            drawn = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1).reshape(batch, -1), drawn)
            return (seen, (own, *lower)), drawn

        seen = jnp.concatenate([state["history"], previous], axis=1)
        (seen, carries), (codes, log_probabilities) = run(0, seen, None, state["carry"], needed)
        state = {"history": seen[:, :-1], "carry": carries}
        return Drawn(state, codes[..., None], log_probabilities)

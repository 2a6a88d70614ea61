"""Frontends as stages of a stream."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gru_audio.audio.frontends import Frontend
from gru_audio.audio.frontends.deltas import Deltas, derivative_weights, weighted_neighbours
from gru_audio.audio.frontends.log_mel import LogMel
from gru_audio.audio.frontends.mfcc import Mfcc
from gru_audio.audio.frontends.pcen import Pcen
from gru_audio.audio.frontends.plain import RawFrames, Ready
from gru_audio.audio.frontends.stack import Stacked
from gru_audio.inference.stream_stages import Span, Stage, Window, Windowed, repeated
from gru_audio.settings import UserError

_COVERED = (LogMel, Mfcc, Pcen, RawFrames, Ready, Deltas, Stacked)


def frontend_stages(frontend: Frontend) -> tuple[Stage, ...]:
    """Returns the stages that compute the features of a frontend from its signal.

    Raises:
      UserError: the frontend is not covered.
    """
    if type(frontend) not in _COVERED:  # a subclass may compute something else
        raise UserError(
            f"The frontend {type(frontend).__name__} cannot run in a stream. These can: "
            f"{', '.join(kind.__name__ for kind in _COVERED)}."
        )
    if isinstance(frontend, Deltas):
        stages = frontend_stages(frontend.source)
        return (*stages, _deltas(frontend, stages[-1].delay))
    if isinstance(frontend, Stacked):
        stages = frontend_stages(frontend.source)
        return (*stages, _stacked(frontend, stages[-1].delay))
    window = Window(0, frontend.samples(1), frontend.hop)
    if isinstance(frontend, Pcen):
        source = frontend.source
        power = Windowed(lambda x: source.mel_power(x, _full(x)), window, whole=True)
        return power, Compression(frontend, power.delay)
    return (Windowed(lambda x: frontend(x, _full(x))[0], window, whole=True),)


def _full(x: jax.Array) -> jax.Array:
    """Returns the length of every row of (S, samples, ...)."""
    return jnp.full(x.shape[0], x.shape[1])


def _deltas(deltas: Deltas, source_delay: int) -> Windowed:
    reach = deltas.reach

    def function(x: jax.Array) -> jax.Array:
        derivatives = [
            weighted_neighbours(x, _full(x), derivative_weights(order, reach))
            for order in range(1, deltas.order + 1)
        ]
        return jnp.concatenate([x, *derivatives], axis=-1)[:, reach : x.shape[1] - reach]

    return Windowed(function, Window(reach, 2 * reach + 1), source_delay, repeated)


def _stacked(stacked: Stacked, source_delay: int) -> Windowed:
    def function(x: jax.Array) -> jax.Array:
        count = x.shape[1] // stacked.size
        return x[:, : count * stacked.size].reshape(x.shape[0], count, -1)

    return Windowed(function, Window(0, stacked.size, stacked.size), source_delay, repeated)


@dataclass(frozen=True)
class Compression:
    """The stage of PCEN after the mel power. Its state is the smoothed level (S, bands)."""

    pcen: Pcen
    delay: int
    windows: tuple[Window, ...] = ()

    def initial(self, source: Span) -> jax.Array:
        streams, _, bands = source.values.shape
        return jnp.zeros((streams, bands), source.values.dtype)

    def __call__(self, state: jax.Array, span: Span) -> tuple[jax.Array, Span]:
        weight = self.pcen.smoothing
        position = jnp.arange(span.values.shape[1])[:, None] - self.delay
        is_first = (position <= span.begin)[..., None]

        def smooth(level: jax.Array, frame: tuple[jax.Array, jax.Array]):
            energy, first = frame
            level = jnp.where(first, energy, (1 - weight) * level + weight * energy)
            return level, level

        frames = jnp.swapaxes(span.values, 0, 1), is_first
        state, levels = jax.lax.scan(smooth, state, frames)
        return state, span._replace(
            values=self.pcen.compressed(span.values, jnp.swapaxes(levels, 0, 1))
        )

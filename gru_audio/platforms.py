"""The platform that code is compiled for, which may be another one than this machine's."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_target: ContextVar[str | None] = ContextVar("target", default=None)


def platform() -> str:
    """Returns "cpu", "gpu" or "tpu": the target of `compiling_for`, or JAX's default backend."""
    return _target.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(target: str) -> Iterator[None]:
    """Makes code choose what suits another platform. JAX must not have traced it before."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)

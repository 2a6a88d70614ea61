"""The examples of a run, read in batches of a few shapes, for predictors that reports compute."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gru_audio.audio.normalise import Normalisation, feature_sums
from gru_audio.data import stream
from gru_audio.data.fields import take
from gru_audio.data.resident import CENTRE, Batch
from gru_audio.data.source import Source
from gru_audio.data.split import select
from gru_audio.tasks import target_field
from gru_audio.tasks.task import InputsAndTargets, Task
from gru_audio.training.program import make_program

EXAMPLES = 4000  # most examples, for training and for testing, of a predictor that reads signals

_SECONDS = 10.0  # only the middle of a longer sound is read
_VALUES = 2**28  # most samples or values to read: 1,600 clips of 10 s at 16 kHz
_BATCH, _BATCH_VALUES = 64, 2**21  # examples, and samples or values, per batch


class Split:
    """The training and test examples of a run, with its frontend and task."""

    def __init__(self, source: Source, config: ConfigDict):
        ids = select(source, config.data, config.seed)
        self.train, self.test = ids["train"], ids["test"]
        self.source, self.config = source, config
        self.program = make_program(config, source.signal, target_field(source, config))
        self.frontend, self.task = self.program.frontend, self.program.task
        self.labels = self.task.labels(source.values(config.data.target))

    @functools.cached_property
    def features(self) -> Callable[[Batch], tuple[jax.Array, jax.Array]]:
        """Compiled: from a batch to features (B, T, F), not normalised, and lengths (B,)."""
        return jax.jit(self.program.features)

    @functools.cached_property
    def blocks(self) -> np.ndarray:
        """Number of blocks to read of each example of the data set, int (N,)."""
        signal, seconds = self.source.signal, self.config.data.crop_seconds
        if self.task.whole:
            seconds = None
        elif signal.is_sound:
            seconds = min(seconds or _SECONDS, _SECONDS)
        blocks = -(-np.maximum(self.source.columns["length"], 1).astype(np.int64) // signal.block)
        if seconds is None:
            return blocks
        return np.minimum(blocks, max(1, int(seconds * signal.rate) // signal.block))

    def few(self, ids: np.ndarray) -> np.ndarray:
        """Returns at most as many of the ids (N,) as can be read in reasonable time, ascending.

        All selections follow one random order of the examples, so that those of several folds
        overlap.
        """
        signal = self.source.signal
        values = signal.block * max(1, signal.width) * self.blocks.mean()
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(self.source))
        return np.sort(ids[np.argsort(order[ids])[: min(EXAMPLES, int(_VALUES // values))]])

    def batches(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yields ids (n,) and a batch of at least n examples, padded to one of a few shapes."""
        signal, blocks = self.source.signal, self.blocks[ids]
        rounded = 2 ** np.ceil(np.log2(blocks)).astype(np.int64)
        padded = signal.block * np.minimum(rounded, blocks.max())
        for length in np.unique(padded):
            alike = ids[padded == length]
            size = int(np.clip(_BATCH_VALUES // (length * max(1, signal.width)), 1, _BATCH))
            for begin in range(0, len(alike), size):
                part = alike[begin : begin + size]
                filled, crop = np.resize(part, size), np.full(size, CENTRE, np.float32)
                rows = np.arange(size, dtype=np.int32)
                yield (
                    part,
                    stream.read(self.source, self.labels, filled, rows, int(length), crop),
                )

    def inputs_and_targets(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, InputsAndTargets]]:
        """Yields ids (n,) and the task's inputs and targets of these n examples."""
        if of_clips(self.task):  # the targets need only the labels
            features = jnp.zeros((len(ids), 1, self.frontend.features))
            labels = self.task.soft_labels(jax.tree.map(jnp.asarray, take(self.labels, ids)))
            yield ids, self.task.inputs_and_targets(features, jnp.ones(len(ids), jnp.int32), labels)
            return
        for part, batch in self.batches(ids):
            prepared = self.program.inputs_and_targets(self.normalisation, batch)
            count = len(part)
            yield part, jax.tree.map(lambda leaf, count=count: leaf[:count], prepared)

    @functools.cached_property
    def normalisation(self) -> Normalisation:
        """The normalisation of the features, as in training."""
        if not self.config.frontend.normalise:
            width = self.frontend.features
            return Normalisation(jnp.zeros(width), jnp.ones(width))
        sums = [
            [np.asarray(a)[: len(part)] for a in feature_sums(*self.features(batch))]
            for part, batch in self.batches(self.few(self.train))
        ]
        count, total, squares = (np.concatenate(a) for a in zip(*sums, strict=True))
        return Normalisation.from_sums(count, total, squares)


def of_clips(task: Task) -> bool:
    """Whether the task predicts labels of whole clips."""
    return task.needs is not None and not task.per_frame

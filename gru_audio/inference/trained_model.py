"""A trained model, whole: what `evaluate` and `predict` need, and nothing else."""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from gru_audio.audio.normalise import Normalisation
from gru_audio.config import check, flatten, read_config
from gru_audio.data import npz
from gru_audio.data.fields import ClassField, Field, describe, described, take
from gru_audio.data.npz import Layout
from gru_audio.data.resident import CENTRE, Batch, crop_start
from gru_audio.data.signal import Signal
from gru_audio.files import read_bytes, read_json, write_atomically
from gru_audio.nn.gates import Gates, gates_of
from gru_audio.settings import UserError
from gru_audio.training.checkpoint import named_leaves
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.program import make_program
from gru_audio.training.step import Program, Weights

_BATCH = 32  # clips labelled at a time


@dataclass(frozen=True)
class TrainedModel:
    """A model with its config, field, kind of signal and normalisation.

    `field` is that of its labels; None if it needs none.
    `longest` is the length, in steps of the signal, to which the longest of the clips that it was
    trained on were padded or cut. `longest_clip` is that of the longest clip of the data set before
    it was cut; None: unknown, of a model from before it was kept.
    """

    config: ConfigDict
    field: Field | None
    signal: Signal
    longest: int
    weights: Weights
    normalisation: Normalisation
    about: dict[str, Any]  # run, data set and versions, for the record
    longest_clip: int | None = None

    @property
    def clip_limit(self) -> int:
        """Steps of the longest sequence that is a clip; a longer one is a recording."""
        seconds = self.config.data.crop_seconds or 0.0
        return max(self.longest_clip or self.longest, math.ceil(seconds * self.signal.rate))

    def save(self, directory: epath.PathLike) -> None:
        """Writes a self-contained checkpoint."""
        description = {
            "config": flatten(self.config),
            "field": describe(self.field) if self.field else None,
            "signal": asdict(self.signal),
            "longest": self.longest,
            "longest_clip": self.longest_clip,
            "about": self.about,
        }
        directory = epath.Path(directory).expanduser()
        save_model(directory, _arrays(self.weights, self.normalisation), description)

    @classmethod
    def load(cls, directory: epath.PathLike) -> "TrainedModel":
        """Reads what `save` wrote.

        Args:
          directory: a path, or a string with one.

        Raises:
          UserError: there is no finished model, or it is damaged or not what its config says.
        """
        arrays, description = load_model(epath.Path(directory).expanduser(), _expected)
        return cls(
            weights=Weights(arrays["params"], arrays.get("model_state", {})),
            normalisation=Normalisation(**arrays["normalisation"]),
            **_described(description),
        )

    def program(self) -> Program:
        """The program the model was trained by."""
        return make_program(self.config, self.signal, self.field)

    def scores(self, clips: Sequence[np.ndarray], labels: Any) -> dict[str, np.ndarray]:
        """The task's scores of clips, signals as the model was trained on.

        Args:
          clips: N of them.
          labels: the task's labels of them, a tree of arrays (N, ...).
        """
        starts = np.array([self._start(len(clip)) for clip in clips], np.int32)
        rows = self._map(self._score, [self.middle(clip) for clip in clips], labels, starts)
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def probabilities(self, clips: Sequence[np.ndarray], batch: int = _BATCH) -> np.ndarray:
        """Those of the classes for whole clips, however long: float32 (N, classes).

        Args:
          clips: at least one, as the model was trained on.
          batch: how many go through the model together; each number is compiled once.
        """
        rows = self._map(self._score, clips, size=batch)
        return np.stack([row["probabilities"] for row in rows])

    @functools.cached_property
    def _score(self) -> Callable[[Batch], dict[str, jax.Array]]:
        """The task's scores of a batch; compiled once for each shape."""
        weights, normalisation = jax.device_put((self.weights, self.normalisation))
        return functools.partial(jax.jit(self.program().score), weights, normalisation)

    @functools.cached_property
    def _unknown(self) -> Any:
        """The task's labels of one clip of which nothing is known."""
        return self.program().task.labels(self.field.arrays([None]) if self.field else ())

    def gates(self, clips: Sequence[np.ndarray]) -> list[dict[str, dict[str, np.ndarray]]]:
        """The gates of the recurrent layers on whole clips, however long.

        Returns:
          For each clip: name of the layer -> name of the gate -> (frames, hidden); see
          `gru_audio.nn.gates`.

        Raises:
          UserError: the model has no recurrent layers.
        """
        program = self.program()

        @jax.jit
        def gates(weights: Weights, normalisation: Normalisation, batch: Batch) -> Gates:
            inputs, frames, _ = program.inputs_and_targets(normalisation, batch)
            variables = {"params": weights.params, **weights.model_state}
            return gates_of(program.model, variables, inputs, frames)

        rows = self._map(
            lambda batch: gates(self.weights, self.normalisation, batch),
            clips,
        )
        return [
            jax.tree.map(lambda gate, length=row.lengths: gate[:length], row.layers) for row in rows
        ]

    def _map(
        self,
        function: Callable[[Batch], Any],
        clips: Sequence[np.ndarray],
        labels: Any = None,
        starts: np.ndarray | None = None,
        size: int = _BATCH,
    ) -> list[Any]:
        """What a function of a batch, a tree of arrays (B, ...), gives for each clip, in order.

        Labels are unknown, and clips begin at their step 0, unless they are given.

        Clips are sorted by length and padded to powers of two blocks or to the longest length of
        training, so that few shapes are compiled.
        """
        if labels is None:
            labels = take(self._unknown, np.zeros(len(clips), np.int32))
        starts = np.zeros(len(clips), np.int32) if starts is None else starts
        lengths = np.array([len(clip) for clip in clips])
        order = np.argsort(lengths, kind="stable")
        results: list[Any] = [None] * len(clips)
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            padded = self._padded(int(lengths[chosen].max()))
            signal = np.zeros((size, padded, *self.signal.shape), self.signal.dtype)
            length = np.ones(size, np.int32)
            for row, i in enumerate(chosen):
                signal[row, : lengths[i]], length[row] = clips[i], lengths[i]
            filled = np.resize(chosen, size)
            batch = Batch(signal, length, starts[filled], take(labels, filled), np.arange(size))
            given = jax.device_get(function(jax.tree.map(jnp.asarray, batch)))
            for row, i in enumerate(chosen):
                results[i] = jax.tree.map(lambda leaf, row=row: leaf[row], given)
        return results

    def _padded(self, length: int) -> int:
        blocks = -(-length // self.signal.block)
        padded = self.signal.block * 2 ** max(0, blocks - 1).bit_length()
        return min(padded, self.longest) if length <= self.longest else padded

    def middle(self, clip: np.ndarray) -> np.ndarray:
        """What of a clip is scored: its middle `crop_seconds`, or all of it if there is no crop."""
        start = self._start(len(clip))
        return clip[start : start + self._crop] if self._crop else clip

    def _start(self, length: int) -> int:
        """The step where the middle of a clip begins; 0 for the whole of it."""
        if not self._crop:
            return 0
        block = self.signal.block
        return block * int(crop_start(np.array([length]), self._crop, CENTRE, block)[0])

    @property
    def _crop(self) -> int:
        """Steps to which longer clips are cropped; 0: they are not."""
        seconds, block = self.config.data.crop_seconds, self.signal.block
        return 0 if seconds is None else block * max(1, int(seconds * self.signal.rate) // block)


def _described(description: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `Trained` that are no arrays."""
    config, signal = read_config(description["config"]), description["signal"]
    check(config)
    about = description["about"]
    if not isinstance(about, dict) or not isinstance(about.get("run"), str):
        raise UserError("about does not name the run.")
    lengths = {name: description.get(name) for name in ("longest", "longest_clip")}
    for name, length in lengths.items():
        if length is None and name == "longest_clip":
            continue
        if type(length) is not int or not 1 <= length < 2**31:
            raise UserError(f"{name}={length} is no length.")
    return {
        "config": config,
        "field": _field(description),
        "signal": Signal(**{**signal, "shape": tuple(signal["shape"])}),
        **lengths,
        "about": about,
    }


def _field(description: dict[str, Any]) -> Field | None:
    if "field" in description:
        return described(description["field"]) if description["field"] else None
    names = description["class_names"]  # of a model from when all fields were classes
    return described({"kind": ClassField.kind, "names": names}) if names else None


def _expected(description: dict[str, Any]) -> Any:
    """Shapes and types of the arrays that a model so described has; nothing is allocated."""
    told = _described(description)
    program = make_program(told["config"], told["signal"], told["field"])
    feature: Any = jax.ShapeDtypeStruct((program.frontend.features,), jnp.float32)
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([told["config"]]))
    state = jax.eval_shape(program.init, jnp.uint32(0), hyper, Normalisation(feature, feature))
    return _arrays(state.weights, state.normalisation)


def _arrays(weights: Weights, normalisation: Normalisation) -> Any:
    """The tree that is saved."""
    return {
        "params": weights.params,
        "model_state": weights.model_state,
        "normalisation": {"mean": normalisation.mean, "std": normalisation.std},
    }


def save_model(directory: epath.Path, arrays: Any, description: dict[str, Any]) -> None:
    """Writes a trained model: `arrays.npz`, and `model.json` last, which marks it complete."""
    named = {name: np.asarray(leaf) for name, leaf in named_leaves(jax.device_get(arrays)).items()}
    write_atomically(directory / "arrays.npz", npz.encode(named, compressed=False))
    text = json.dumps(description, indent=1, sort_keys=True)
    write_atomically(directory / "model.json", text)


def load_model(
    directory: epath.Path, expected: Callable[[dict[str, Any]], Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Arrays (host, as nested dicts) and description of a model that `save_model` wrote.

    Nothing in it is executed, and no array is read before its size has been checked.

    Args:
      directory: the model's.
      expected: gives, for a description, shapes and dtypes that the arrays must have.

    Raises:
      UserError: there is no model, or it is damaged, or not what its description says.
    """
    file = directory / "model.json"
    if not file.exists():
        raise UserError(f"No trained model in {directory}: {file.name} is missing.")
    try:
        description = read_json(file)
        data = read_bytes(directory / "arrays.npz")
        found = npz.layouts(data)
        if expected is not None:
            _compare(found, named_leaves(expected(description)))
        return _nested(npz.decode(data)), description
    except Exception as error:  # a crafted description fails wherever it is first believed
        reason = str(error) or type(error).__name__
        raise UserError(f"The model in {directory} cannot be used: {reason}") from error


def _compare(found: Mapping[str, Layout], expected: Mapping[str, Any]) -> None:
    for name in sorted({*found, *expected}):
        its = found.get(name)
        due = expected.get(name) and Layout(expected[name].shape, expected[name].dtype)
        if its != due:
            raise ValueError(f"{name} should be {due}, and is {its}.")


def _nested(arrays: Mapping[str, np.ndarray]) -> Any:
    """{"a/b": x} as {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for name, leaf in arrays.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf
    return tree

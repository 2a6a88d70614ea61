"""A trained model with everything that `evaluate` and `predict` need."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

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
from gru_audio.nn.model import Outputs
from gru_audio.settings import UserError
from gru_audio.tasks.task import decoded, joined
from gru_audio.training.checkpoint import named_leaves
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.program import make_program
from gru_audio.training.step import Program, Weights

T = TypeVar("T")

_BATCH = 32  # clips per model call


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its config, label field, signal and normalisation.

    Attributes:
      config: the config of the run.
      field: the field of the labels; None for a task without labels.
      signal: the kind of sequence that the model was trained on.
      longest: the longest padded length in training, in steps of the signal.
      weights: the parameters and the model state.
      normalisation: mean and standard deviation of the features.
      about: the run, data set and versions.
      decoding: parameters that turn outputs into predictions; see `Task.decoding`.
      longest_clip: the length of the longest clip of the data set before cropping, in steps; None:
        unknown, for a model of an older version.
    """

    config: ConfigDict
    field: Field | None
    signal: Signal
    longest: int
    weights: Weights
    normalisation: Normalisation
    about: dict[str, Any]
    decoding: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    longest_clip: int | None = None

    @property
    def clip_limit(self) -> int:
        """The largest number of steps of a clip; a longer sequence is a recording."""
        seconds = self.config.data.crop_seconds or 0.0
        return max(self.longest_clip or self.longest, math.ceil(seconds * self.signal.rate))

    def save(self, directory: epath.PathLike) -> None:
        """Writes the model to a folder, as `arrays.npz` and `model.json`."""
        description = {
            "config": flatten(self.config),
            "field": describe(self.field) if self.field else None,
            "signal": asdict(self.signal),
            "longest": self.longest,
            "longest_clip": self.longest_clip,
            "decoding": {name: value.tolist() for name, value in self.decoding.items()},
            "about": self.about,
        }
        directory = epath.Path(directory).expanduser()
        save_model(directory, _arrays(self.weights, self.normalisation), description)

    @classmethod
    def load(cls, directory: epath.PathLike) -> "TrainedModel":
        """Reads a model that `save` wrote.

        Raises:
          UserError: there is no model, it is damaged, or its arrays do not match its config.
        """
        arrays, description = load_model(epath.Path(directory).expanduser(), _expected)
        return cls(
            weights=Weights(arrays["params"], arrays.get("model_state", {})),
            normalisation=Normalisation(**arrays["normalisation"]),
            **_described(description),
        )._with_decoding(description.get("decoding", {}))

    def _with_decoding(self, stored: Mapping[str, Any]) -> "TrainedModel":
        """Returns the model with parameters of decoding from `model.json`, which are checked."""
        defaults, decoding = self.program().task.decoding(None), {}
        for name, default in defaults.items():
            try:
                value = np.asarray(stored[name], default.dtype)
            except (KeyError, OverflowError, TypeError, ValueError):
                value = np.array([])
            if value.shape != default.shape or not np.isfinite(value).all():
                raise UserError(f"The model of {self.about['run']} has no valid decoding.{name}.")
            decoding[name] = value
        return replace(self, decoding=decoding)

    def program(self) -> Program:
        """Builds the program that trained the model."""
        return make_program(self.config, self.signal, self.field)

    def scores(self, clips: Sequence[np.ndarray], labels: Any) -> dict[str, np.ndarray]:
        """Computes the task's scores of clips, cropped to the middle as in an evaluation.

        Args:
          clips: N signals of the kind that the model was trained on; at least one.
          labels: the task's labels of the clips, a tree of arrays (N, ...).

        Returns:
          Arrays (N, ...) by name.
        """
        starts = np.array([self._start(len(clip)) for clip in clips], np.int32)
        rows = self._map(self._score, [self.middle(clip) for clip in clips], labels, starts)
        scores = joined([{name: value[None] for name, value in row.items()} for row in rows])
        return decoded(scores, self.decoding)

    def probabilities(self, clips: Sequence[np.ndarray], batch: int = _BATCH) -> np.ndarray:
        """Computes class probabilities of whole clips of any length, float32 (N, classes).

        Args:
          clips: N signals of the kind that the model was trained on; at least one.
          batch: clips per model call; each value is compiled once.
        """
        rows = self._map(self._score, clips, size=batch)
        return np.stack([row["probabilities"] for row in rows])

    def outputs(self, clips: Sequence[np.ndarray], batch: int = _BATCH) -> list[np.ndarray]:
        """Computes the outputs of the model for whole clips of any length.

        Args:
          clips: N signals of the kind that the model was trained on.
          batch: clips per model call; each value is compiled once.

        Returns:
          For each clip float32 (outputs,), or (frames, outputs) if the task is per frame.
        """
        rows = self._map(self._outputs, clips, size=batch)
        if not self.program().task.per_frame:
            return [row.values for row in rows]
        return [row.values[: row.lengths] for row in rows]

    @functools.cached_property
    def _outputs(self) -> Callable[[Batch], Outputs]:
        """The function from a batch to the model's outputs; compiled once for each shape."""
        program = self.program()
        return self._compiled(lambda *args: program.outputs(*args)[0]._replace(state=None))

    @functools.cached_property
    def _score(self) -> Callable[[Batch], dict[str, jax.Array]]:
        """The function from a batch to the task's scores; compiled once for each shape."""
        return self._compiled(self.program().score)

    def _compiled(
        self, function: Callable[[Weights, Normalisation, Batch], T]
    ) -> Callable[[Batch], T]:
        """Returns a function of a batch, compiled once for each shape."""
        weights, normalisation = jax.device_put((self.weights, self.normalisation))
        return functools.partial(jax.jit(function), weights, normalisation)

    def apply(
        self,
        function: Callable[[Weights, Normalisation, Batch], T],
        clips: Sequence[np.ndarray],
        batch: int = _BATCH,
    ) -> list[T]:
        """Applies a function of a batch, which returns arrays (batch, ...), to whole clips.

        Returns:
          For each of the N clips its part of the result, on the host.
        """
        return self._map(self._compiled(function), clips, size=batch)

    @functools.cached_property
    def _unknown(self) -> Any:
        """The task's labels of one clip whose field value is unknown."""
        return self.program().task.labels(self.field.arrays([None]) if self.field else ())

    def gates(
        self, clips: Sequence[np.ndarray], batch: int = _BATCH
    ) -> list[dict[str, dict[str, np.ndarray]]]:
        """Computes the gates and states of the recurrent layers on whole clips of any length.

        Args:
          clips: N signals of the kind that the model was trained on.
          batch: clips per model call; each value is compiled once.

        Returns:
          For each clip: layer name -> gate or state name -> (frames, hidden); see
          `gru_audio.nn.gates`.

        Raises:
          UserError: the model has no recurrent layers.
        """
        rows = self._map(self._gates, clips, size=batch)
        return [
            jax.tree.map(lambda gate, length=row.lengths: gate[:length], row.layers) for row in rows
        ]

    @functools.cached_property
    def _gates(self) -> Callable[[Batch], Gates]:
        """The function from a batch to the gates; compiled once for each shape."""
        program = self.program()

        def gates(weights: Weights, normalisation: Normalisation, batch: Batch) -> Gates:
            inputs, lengths, *_ = program.inputs_and_targets(normalisation, batch)
            variables = {"params": weights.params, **weights.model_state}
            return gates_of(program.model, variables, inputs, lengths)

        return self._compiled(gates)

    def _map(
        self,
        function: Callable[[Batch], Any],
        clips: Sequence[np.ndarray],
        labels: Any = None,
        starts: np.ndarray | None = None,
        size: int = _BATCH,
    ) -> list[Any]:
        """Applies a function of a batch to clips; returns its result for each clip, in order.

        Clips are sorted by length and padded to a power of two of blocks, or to the longest length
        of training, so that few shapes are compiled.

        Args:
          function: returns a tree of arrays (size, ...).
          clips: N signals.
          labels: the task's labels, a tree of arrays (N, ...); None: unknown.
          starts: the step at which each clip was cropped (N,); None: 0.
          size: clips per call.
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
            result = jax.device_get(function(jax.tree.map(jnp.asarray, batch)))
            for row, i in enumerate(chosen):
                results[i] = jax.tree.map(lambda leaf, row=row: leaf[row], result)
        return results

    def _padded(self, length: int) -> int:
        blocks = -(-length // self.signal.block)
        padded = self.signal.block * 2 ** max(0, blocks - 1).bit_length()
        return min(padded, self.longest) if length <= self.longest else padded

    def middle(self, clip: np.ndarray) -> np.ndarray:
        """Returns the part of a clip that is scored: the middle `crop_seconds`, or all of it."""
        start = self._start(len(clip))
        return clip[start : start + self._crop] if self._crop else clip

    def _start(self, length: int) -> int:
        """Returns the step where the scored part of a clip of `length` steps begins."""
        if not self._crop:
            return 0
        block = self.signal.block
        return block * int(crop_start(np.array([length]), self._crop, CENTRE, block)[0])

    @functools.cached_property
    def _crop(self) -> int:
        """Steps to which longer clips are cropped; 0: no crop."""
        seconds, block = self.config.data.crop_seconds, self.signal.block
        if seconds is None or self.program().task.whole:
            return 0
        return block * max(1, int(seconds * self.signal.rate) // block)


def _described(description: dict[str, Any]) -> dict[str, Any]:
    """Parses `model.json`: the attributes of a `TrainedModel` that are not arrays."""
    config, signal = read_config(description["config"]), description["signal"]
    check(config)
    about = description["about"]
    if not isinstance(about, dict) or not isinstance(about.get("run"), str):
        raise UserError("The key about does not name the run.")
    lengths = {name: description.get(name) for name in ("longest", "longest_clip")}
    for name, length in lengths.items():
        if length is None and name == "longest_clip":
            continue
        if type(length) is not int or not 1 <= length < 2**31:
            raise UserError(f"{name}={length} is not a valid length.")
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
    names = description["class_names"]  # the format of before there were other fields
    return described({"kind": ClassField.kind, "names": names}) if names else None


def _expected(description: dict[str, Any]) -> Any:
    """Returns the shapes and dtypes that the arrays of a model must have, without allocation."""
    attributes = _described(description)
    program = make_program(attributes["config"], attributes["signal"], attributes["field"])
    feature: Any = jax.ShapeDtypeStruct((program.frontend.features,), jnp.float32)
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([attributes["config"]]))
    state = jax.eval_shape(program.init, jnp.uint32(0), hyper, Normalisation(feature, feature))
    return _arrays(state.weights, state.normalisation)


def _arrays(weights: Weights, normalisation: Normalisation) -> Any:
    """Returns the tree of arrays that is saved."""
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
    """Reads the arrays and the description of a model that `save_model` wrote.

    The model may be untrusted: loading runs no code from it, and checks the size of each array
    before it reads the array.

    Args:
      directory: the folder of the model.
      expected: returns the shapes and dtypes that the arrays of a description must have.

    Returns:
      The arrays on the host as nested dicts, and the description.

    Raises:
      UserError: there is no model, it is damaged, or its arrays do not match its description.
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
    except Exception as error:  # a crafted description can fail anywhere
        reason = str(error) or type(error).__name__
        raise UserError(f"The model in {directory} cannot be used: {reason}") from error


def _compare(found: Mapping[str, Layout], expected: Mapping[str, Any]) -> None:
    for name in sorted({*found, *expected}):
        actual = found.get(name)
        required = expected.get(name) and Layout(expected[name].shape, expected[name].dtype)
        if actual != required:
            raise ValueError(f"{name} should be {required}, but is {actual}.")


def _nested(arrays: Mapping[str, np.ndarray]) -> Any:
    """Converts {"a/b": x} to {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for name, leaf in arrays.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf
    return tree

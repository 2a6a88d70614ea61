"""Trained models that runs begin with: where they are, whether they fit, and what is kept of them.

The workdir of a sweep has a copy of each, so that the sweep resumes without its sources.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from gru_audio.audio.normalise import Normalisation
from gru_audio.config import flatten
from gru_audio.exports import FORMATS
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.settings import UserError, nearest
from gru_audio.sweeps.status import FINISHED, read_run_states, read_sweep
from gru_audio.sweeps.sweep import Run
from gru_audio.sweeps.workdir import Workdir
from gru_audio.tasks import metric_called
from gru_audio.tasks.task import Task
from gru_audio.training.checkpoint import content, named_leaves
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.init import RATES, SOURCE, Start, is_frozen, is_output, rate_of
from gru_audio.training.step import Program, Weights

_SUFFIX = FORMATS["safetensors"].suffix
_SHOWN = 6  # differing keys in a message
# Keys of the model in which a run may differ from its source: those of random weights, of the
# computation and of the head, which may be new.
_FREE = {
    *("model.kernel_init", "model.recurrent_init", "model.output_init"),
    *("model.forget_bias", "model.output_bias"),
    *("model.compute_dtype", "model.implementation", "model.remat_frames", "model.dropout"),
    *("model.pooling", "model.heads", "model.dense"),
}


def source_of(config: ConfigDict) -> str:
    """Returns the name of a run's source; "" if it has none."""
    return config.init.source.replace("{seed}", str(config.seed))


def read_sources(runs: Sequence[Run], workdir: Workdir | None) -> dict[str, TrainedModel]:
    """Reads the sources of runs, each once.

    Args:
      runs: all runs of a sweep.
      workdir: of the sweep; its copy takes the place of a source that cannot be read any more.

    Returns:
      The models by `source_of`.

    Raises:
      UserError: a source is missing or damaged, or its weights are not finite.
    """
    found: dict[str, TrainedModel] = {}
    digests = workdir.digests() if workdir else {}
    for name in dict.fromkeys(filter(None, (source_of(run.config) for run in runs))):
        try:
            found[name] = read_model(name)
        except UserError as error:
            if not workdir or name not in digests:
                raise UserError(f"config.init.source={name}: {error}") from error
            found[name] = TrainedModel.load(workdir.source(digests[name]))
    return found


def read_model(name: str) -> TrainedModel:
    """Reads a trained model.

    Args:
      name: WORKDIR, WORKDIR:RUN, or a .safetensors file or its folder.

    Raises:
      UserError: there is no such model, or it is damaged.
    """
    path, colon, run = name.rpartition(":")
    if not colon or "/" in run:  # the colon of an address such as gs://bucket/runs
        path, run = name, ""
    folder = epath.Path(path).expanduser()
    if not folder.exists():
        raise UserError(f"{path} does not exist.")
    if path.endswith(_SUFFIX):
        folder = folder.parent
    if (folder / f"model{_SUFFIX}").exists():
        model = FORMATS["safetensors"].load().load(folder)
    else:
        workdir = Workdir(path)
        model = TrainedModel.load(workdir.find_model(run or _best_run(workdir)))
    for leaf, array in named_leaves((model.weights, model.normalisation)).items():
        if not np.isfinite(array).all():
            raise UserError(f"{leaf.partition('/')[2]} has values that are not finite.")
    return model


def _best_run(workdir: Workdir) -> str | None:
    """Returns the run with the best validation score; None if the workdir has one run only."""
    sweep = read_sweep(workdir.root)
    if len(sweep["runs"]) == 1:
        return None
    states = read_run_states(workdir.root, sweep, datetime.datetime.now(datetime.UTC))
    metric = metric_called(sweep["selection"].partition("/")[2])
    sign = 1 if metric.higher_is_better else -1
    scores = {s.run: sign * s.best for s in states if s.state == FINISHED and s.best is not None}
    if not scores:
        raise UserError("no finished run has a validation score: name one as WORKDIR:RUN.")
    return max(scores, key=lambda run: scores[run])


def keep(sources: Mapping[str, TrainedModel], workdir: Workdir) -> None:
    """Copies models, by digest, to the workdir, unless this has been done."""
    for name, model in sources.items():
        if not (workdir.source(name) / "model.json").exists():
            model.save(workdir.source(name))


def digest(model: TrainedModel) -> str:
    """Returns the SHA-256 of what a run may take from a model, whatever file holds it."""
    names = json.dumps(model.program().task.names_of_outputs).encode()
    return content((model.weights, model.normalisation, np.frombuffer(names, np.uint8)))


def begin(config: ConfigDict, program: Program, source: TrainedModel) -> tuple[Start, str]:
    """Returns what a run takes from its source, and a note on it for the user.

    All weights outside the head must fit. Outputs are kept by name. If another layer of the head
    does not fit, the whole head is new.

    Args:
      config: of the run.
      program: of the run.
      source: the model that `source_of(config)` names.

    Raises:
      UserError: the source is another model, or was trained on another kind of signal.
    """
    _check_alike(config, program, source)
    wanted, found = named_leaves(_weights(config, program)), named_leaves(source.weights)
    misfits = sorted(path for path in {*wanted, *found} if not _fits(path, wanted, found))
    if others := [path for path in misfits if not _in_head(path)]:
        there, here = (
            f"of shape {np.shape(of[others[0]])}" if others[0] in of else "missing"
            for of in (found, wanted)
        )
        raise UserError(
            f"config.init.source={source_of(config)}: {others[0]} is {there} there and {here} here."
        )
    places = _places(program.task, source.program().task)
    if misfits:
        places = np.full_like(places, -1)
    arrays = {
        path: found[path][..., places] if is_output(path) else found[path]
        for path in wanted
        if not (misfits and _in_head(path))
    }
    known, task = places >= 0, program.task
    noun = task.output_words[1] if len(task.output_names) == task.outputs else "outputs"
    note = (
        f"begins with the weights of {source_of(config)} ({source.about['run']}): kept "
        f"{known.sum()} of {len(known)} {noun}{' and no layer of the head' if misfits else ''}; "
        f"normalisation of the {config.init.normalisation}"
    )
    normalisation = source.normalisation if config.init.normalisation == SOURCE else None
    return Start(arrays, known, normalisation), note


def begin_group(
    configs: Sequence[ConfigDict], program: Program, sources: Mapping[str, TrainedModel]
) -> tuple[Start | None, list[str]]:
    """Checks the section `init` of the runs of a group, and selects what they begin with.

    Args:
      configs: of the runs.
      program: of the runs.
      sources: the models by `source_of`.

    Returns:
      The start, with leaves (M, ...), and a note on each run; None and no notes without a source.

    Raises:
      UserError: see `begin` and `check_parts`, or the sources have different heads.
    """
    check_parts(configs[0], program)
    if not configs[0].init.source:
        return None, []
    pairs = [begin(config, program, sources[source_of(config)]) for config in configs]
    starts, notes = zip(*pairs, strict=True)
    if len({frozenset(start.arrays) for start in starts}) > 1:
        raise UserError("config.init.source: the heads of the sources must have the same layers.")
    return jax.tree.map(lambda *leaves: np.stack(leaves), *starts), list(notes)


def check_parts(config: ConfigDict, program: Program) -> None:
    """Checks that the parts that the section `init` names exist, and that one of them trains.

    Raises:
      UserError: a part does not exist, or nothing is left to train.
    """
    init = config.init
    rates = [key for key in RATES if init[key] != 1]
    if not init.freeze and not rates:
        return
    paths = list(named_leaves(_weights(config, program).params))
    for pattern in init.freeze:
        if not any(is_frozen(path, (pattern,)) for path in paths):
            names = {path.rpartition("/")[0] for path in paths}
            names |= {name.partition("/")[0] for name in names}
            raise UserError(f'config.init.freeze: no part is "{pattern}".{nearest(pattern, names)}')
    if all(is_frozen(path, init.freeze) for path in paths):
        raise UserError("config.init.freeze leaves nothing to train: leave out a part.")
    for key in rates:
        if f"init.{key}" not in map(rate_of, paths):
            raise UserError(
                f"config.init.{key}={init[key]:g}: config.model.name={config.model.name} has no "
                f"{key.removesuffix('_rate')}: set it to 1."
            )


def _check_alike(config: ConfigDict, program: Program, source: TrainedModel) -> None:
    name, signal, own = source_of(config), source.signal, program.signal
    if (signal.rate, signal.shape) != (own.rate, own.shape):
        hint = f" Prepare it with --sample_rate {signal.rate}." if signal.is_sound else ""
        raise UserError(
            f"config.init.source={name}: it was trained on {_described(signal)}, and "
            f"{config.data.name} has {_described(own)}.{hint}"
        )
    there, here = flatten(source.config), flatten(config)
    differing = [
        f"config.{key} is {there.get(key, 'unset')} there and {here.get(key, 'unset')} here"
        for key in sorted({*there, *here})
        if key.startswith(("frontend.", "model.")) and key not in _FREE
        if there.get(key) != here.get(key)
    ]
    if differing:
        more = f", and {len(differing) - _SHOWN} more" if differing[_SHOWN:] else ""
        raise UserError(
            f"config.init.source={name} is another model: {', '.join(differing[:_SHOWN])}{more}. "
            "Set them as they are there."
        )


def _described(signal: Any) -> str:
    return f"sound at {signal.rate} Hz" if signal.is_sound else f"frames of {signal.width} values"


def _weights(config: ConfigDict, program: Program) -> Weights:
    """Returns the shapes of the weights of a run."""
    features: Any = jax.ShapeDtypeStruct((program.frontend.features,), jnp.float32)
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([config]))
    statistics = Normalisation(features, features)
    return jax.eval_shape(program.init, jnp.uint32(0), hyper, statistics).weights


def _fits(path: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    if path not in wanted or path not in found:
        return False
    until = -1 if is_output(path) else None  # the number of outputs may differ
    return wanted[path].shape[:until] == found[path].shape[:until]


def _in_head(path: str) -> bool:
    return path.startswith("params/head/")


def _places(task: Task, source: Task) -> np.ndarray:
    """Returns the place of each output of a task among those of the source (outputs,); -1: none."""
    names, theirs = task.names_of_outputs, source.names_of_outputs
    if names and theirs:
        places = {name: place for place, name in enumerate(theirs)}
        return np.array([places.get(name, -1) for name in names])
    alike = not names and not theirs and task.outputs == source.outputs
    return np.arange(task.outputs) if alike else np.full(task.outputs, -1)

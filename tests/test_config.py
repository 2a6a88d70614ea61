"""The config: overrides, checks, and configs of earlier versions."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gru_audio.audio.frontends import FRONTENDS
from gru_audio.audio.normalise import Normalisation
from gru_audio.config import (
    check,
    default_config,
    differences,
    flatten,
    override,
    read_config,
    settings_in,
)
from gru_audio.data.source import open_source
from gru_audio.nn.models import MODELS
from gru_audio.settings import UserError, nearest, setting
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.sweep import Sweep, expand
from gru_audio.sweeps.sweep import group as group_runs
from gru_audio.sweeps.workdir import identity
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.optimizer import OPTIMIZERS, SCHEDULES
from tests.golden_configs import empty_data_sets, golden, parts
from tests.tones import tiny

ROOT = Path(__file__).resolve().parents[1]
PARTS = parts()
ONE = Sweep(variants={"one": {}})


def test_the_default_is_sound():
    check(default_config())


def test_flatten_survives_json():
    changes = {"model.conv": ("8 5x1",), "model.name": "crnn", "data.crop_seconds": 0.5}
    config = override(default_config(), changes)
    flat = json.loads(json.dumps(flatten(config)))
    back = override(default_config(), flat)
    assert flatten(back) == flat
    assert back.model.conv == ("8 5x1",)
    assert list(flat) == sorted(flat)


def test_override_leaves_the_original_alone():
    config = default_config()
    changed = override(config, {"model.hidden": 7})
    assert (config.model.hidden, changed.model.hidden) == (128, 7)


def test_a_placeholder_takes_a_value():
    assert override(default_config(), {"frontend.n_fft": 1024}).frontend.n_fft == 1024


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.hiden": 3}, 'Unknown config key "model.hiden". Did you mean "model.hidden"'),
        ({"modle": 3}, 'Unknown config key "modle"'),
        ({"model.hidden": "many"}, "config.model.hidden: .*int"),
        ({"model.hidden": 1.5}, "config.model.hidden: .*int"),
        ({"model.bidirectional": "perhaps"}, "config.model.bidirectional: .*bool"),
        ({"data.crop_seconds": "long"}, "config.data.crop_seconds: .*float"),
    ],
)
def test_unknown_keys_and_wrong_types(changes, message):
    with pytest.raises(UserError, match=message):
        override(default_config(), changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.hidden": 0}, "config.model.hidden=0 must be at least 1"),
        ({"model.layers": -1}, "config.model.layers=-1"),
        ({"optimizer.learning_rate": float("nan")}, "config.optimizer.learning_rate=nan"),
        ({"optimizer.learning_rate": -1.0}, "config.optimizer.learning_rate=-1.0"),
        ({"model.dropout": 1.0}, "config.model.dropout=1.0 must be at least 0 and below 1"),
        ({"seed": -1}, "config.seed=-1 must be at least 0"),
        ({"seed": 2**32}, "config.seed=4294967296"),
        ({"data.seed": -1}, "config.data.seed=-1"),
        ({"data.crop_seconds": 0.0}, "config.data.crop_seconds=0.0"),
        ({"data.loader": "streem"}, 'Did you mean "streamed"'),
        ({"parallel.mode": "pmapp"}, 'Did you mean "pmap"'),
        ({"train.batch_size": 9, "parallel.data": 2}, "must be a multiple of"),
        ({"data.validation": "", "train.patience": 3}, "needs a validation split"),
    ],
)
def test_impossible_values(changes, message):
    with pytest.raises(UserError, match=message):
        check(override(default_config(), changes))


# Configs that together contain the keys of all components.
ELSEWHERE = (
    {},
    {"model.name": "crnn", "model.cell": "lstm", "model.pooling": "multi_head_attention"},
    {"model.name": "tcn", "frontend.name": "mfcc", "frontend.deltas": 1},
    {"frontend.name": "pcen", "optimizer.name": "rmsprop"},
    {"frontend.name": "raw", "optimizer.name": "sgd"},
)
NUMBERS = {}  # key -> type, and the choices that it depends on
for _chosen in reversed(ELSEWHERE):
    for _name, _its in settings_in(override(default_config(), _chosen)).items():
        if _its.kind in (int, float):
            NUMBERS[_name] = _its.kind, _chosen


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_usable_or_refused_in_one_line(data_dir, name):
    """The check rejects values that would fail later, or take unlimited time and memory."""
    kind, chosen = NUMBERS[name]
    values = [0, 1, -1, -(2**70), 2**31, 2**40, 2**70, 10**30]
    values += [] if kind is int else [math.nan, math.inf, -math.inf, 1e-300, 1e300, 3.4e38, 0.5]
    refused = 0
    for value in map(kind, values):
        try:
            config = override(tiny({"data.dir": str(data_dir)}), {**chosen, name: value})
            planned = plan(config, ONE, "experiment", "", "")
        except UserError as error:
            assert len(str(error).splitlines()) == 1, value
            refused += 1
            continue
        assert math.isfinite(value)
        hyper = hyperparameters([config])
        assert np.isfinite([float(column[0]) for column in hyper.values()]).all()
        (program,) = planned.programs
        feature = jax.ShapeDtypeStruct((program.frontend.features,), np.float32)
        jax.eval_shape(
            program.init,
            np.uint32(0),
            {key: column[0] for key, column in hyper.items()},
            Normalisation(feature, feature),
        )
    assert refused >= 3, f"{name} has no bounds"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frontend.mels": 0}, r"config.frontend.mels=0 must be at least 1\.$"),
        ({"frontend.mels": 10**6}, r"config.frontend.mels=1000000 must be at most 4096\.$"),
        (
            {"frontend.window_ms": math.nan},
            "window_ms=nan must be a number, above 0 and at most",
        ),
        ({"frontend.hop_ms": math.inf}, "hop_ms=inf must be at most"),
        ({"frontend.f_max": math.nan}, "f_max=nan must be a number"),
        ({"frontend.n_fft": 2**30}, "n_fft=1073741824 must be at most 131072"),
        ({"augment.background": 1.5}, "background=1.5 must be at least 0 and at most 1"),
        ({"optimizer.b1": 1 - 1e-12}, "below 1"),  # rounds to 1 in float32
        ({"model.hidden": True}, "config.model.hidden: True is not of type int"),
        ({"parallel.vmap_members": -1}, "vmap_members=-1 must be at least 0"),
        (
            {"data.sampling": "balanced", "task.class_weight": "balanced"},
            "would correct the same imbalance twice",
        ),
    ],
)
def test_a_number_out_of_its_bounds(changes, message):
    with pytest.raises(UserError, match=message):
        check(override(default_config(), changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.name": "tonnes"}, 'no data set "tonnes".* Did you mean "tones"'),
        ({"data.train": "trainn"}, 'no split "trainn".* Did you mean "train"'),
        ({"data.target": "lable"}, 'no field "lable".* Did you mean "label"'),
        ({"data.cluster": "grup"}, 'no field "grup".* Did you mean "group"'),
        ({"data.hold_out": "group=anna"}, 'Did you mean "ann"'),
        ({"frontend.name": "logmel"}, 'Did you mean "log_mel"'),
        ({"frontend.mels": 200}, "mel"),
        ({"frontend.f_max": 9000.0}, "f_max"),
        ({"model.name": "rnn_clasifier"}, 'Did you mean "rnn_classifier"'),
        ({"model.cell": "gruu"}, 'Did you mean "gru"'),
        ({"model.pooling": "meen"}, 'Did you mean "mean"'),
        ({"model.kernel_init": "lecun"}, 'Did you mean "lecun_normal"'),
        ({"task.name": "classify"}, 'Did you mean "classification"'),
        ({"optimizer.name": "adamm"}, 'Did you mean "adam'),
        ({"optimizer.schedule": "cosin"}, 'Did you mean "cosine"'),
        ({"train.select": "validation/acuracy"}, 'Did you mean "validation/accuracy"'),
        ({"train.select": "test/accuracy"}, "config.train.select"),
        ({"parallel.data": 1000, "train.batch_size": 1000}, "there are 8 devices"),
        ({"parallel.member": 1000}, "there are 8"),
    ],
)
def test_a_plan_refuses_what_data_or_devices_do_not_allow(data_dir, changes, message):
    config = tiny({"data.dir": str(data_dir)})
    with pytest.raises(UserError, match=f"(?s){message}"):
        plan(override(config, changes), ONE, "experiment", "", "")


def test_the_settings_of_a_data_set_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"python -m gru_audio\.prepare spoken_digit"):
        open_source("spoken_digit", tmp_path)


def test_nearest():
    hint = nearest("hiden", ["hidden", "layers"])
    assert hint == ' Did you mean "hidden"? Valid: hidden, layers.'
    assert nearest("xyz", ["a", "b"]) == " Valid: a, b."
    assert nearest("b; a", ["a", "b"]) == " Separate them by commas: b,a"


def test_a_new_name_replaces_the_keys():
    config = default_config()
    config.model.hidden, config.model.cell = 7, "lstm"
    config.model.forget_bias = 2.0
    config.model.name = "tcn"
    assert "cell" not in config.model and config.model.kernel == 3
    assert config.model.hidden == 7  # keys of both
    config.model.name = "crnn"
    assert (config.model.hidden, config.model.cell) == (7, "gru")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.kernel": 5}, "model.kernel belongs to model.name=tcn.*: here it is rnn_"),
        ({"model.name": "tcn", "model.cell": "gru"}, "belongs to model.name=.*crnn or rnn_class"),
        ({"model.projection": 3}, "belongs to model.cell=.*lstm or lstm_peephole"),
        ({"model.name": "tcn", "model.projection": 3}, "belongs to model.name=.*crnn or rnn_"),
        ({"model.heads": 3}, "belongs to model.pooling=multi_head_attention: here it is last"),
        ({"frontend.delta_frames": 3}, "belongs to frontend.deltas=1 or 2: here it is 0"),
        ({"frontend.name": "raw", "frontend.deltas": 1}, "belongs to frontend.name=log_mel"),
        ({"optimizer.momentum": 0.9}, "belongs to optimizer.name=rmsprop or sgd: here it is adam"),
        ({"optimizer.schedule": "constant", "optimizer.final_fraction": 0.1}, "here it is const"),
        ({"task.name": "adding", "task.label_smoothing": 0.1}, "task.name=classification or tag"),
        ({"task.name": "adding", "task.class_weight": "balanced"}, "task.name=classification or"),
    ],
)
def test_a_key_of_another_component_names_its_owner(changes, message):
    for order in (changes, dict(reversed(changes.items()))):
        with pytest.raises(UserError, match=message):
            override(default_config(), order)


@given(st.permutations(("model.name", "model.cell", "model.projection", "model.conv_norm")))
def test_the_order_of_changes_does_not_matter(names):
    values = {
        "model.name": "crnn",
        "model.cell": "lstm",
        "model.projection": 3,
        "model.conv_norm": False,
    }
    config = override(default_config(), {name: values[name] for name in names})
    assert differences(config) == values


def test_configs_of_old_runs_are_read():
    """Old configs contain the keys of all components, and one key was renamed since."""
    old = flatten(override(default_config(), {"model.name": "tcn", "model.hidden": 9}))
    old |= {"model.cell": "lstm", "model.heads": 4, "frontend.frame_size": 80}
    old |= {"model.tcn_kernel": 8}
    del old["model.kernel"], old["optimizer.b2"]
    expected = {"model.name": "tcn", "model.hidden": 9, "model.kernel": 8}
    assert differences(read_config(old)) == expected
    with pytest.raises(UserError, match="Did you mean"):
        read_config(old | {"model.hiden": 3})


def test_a_name_that_only_an_experiment_defines_says_how_to_load_it():
    with pytest.raises(UserError, match="pass --experiment FILE"):
        read_config({"model.cell": "nobodys"})


def grown(table, name, **fields):
    """Returns a component with one more setting."""
    more = {field: setting(value, doc="New.") for field, value in fields.items()}
    annotations = {field: type(value) for field, value in fields.items()}
    old = table[name]
    body = {**more, "__annotations__": annotations, "__module__": __name__}
    made = type(old.__name__, (old,), body)
    return made if issubclass(old, nn.Module) else dataclass(frozen=True)(made)


@pytest.mark.parametrize(
    ("table", "name", "section"),
    [
        (MODELS, "rnn_classifier", "model"),
        (MODELS, "tcn", "model"),
        (FRONTENDS, "log_mel", "frontend"),
        (OPTIMIZERS, "adam", "optimizer"),
        (SCHEDULES, "constant", "optimizer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_new_setting_changes_no_identity(monkeypatch, table, name, section):
    """A new setting does not change the identity of existing runs."""
    experiments = {part: PARTS[part] for part in ("quickstart", "bai2018-copy_memory_1000")}

    def identities():
        found = {}
        for part, (module, arguments) in experiments.items():
            config = module.get_config(*arguments)
            config.data.dir = empty_data_sets()
            runs = expand(config, module.get_sweep(config))
            found[part] = (
                golden(module, arguments),
                [group.name for group in group_runs(runs)],
                [identity(description(run.config)) for run in runs],
            )
        return found

    def description(config):
        keys = ("experiment", "halving", "data_fingerprint")
        return {
            **dict.fromkeys(keys, ""),
            **{"variants": {}, "trials": [], "replicates": []},
            "config": flatten(config),
        }

    before, stored = identities(), flatten(default_config())
    monkeypatch.setitem(table, name, grown(table, name, novelty="none"))
    key = f"{section}.novelty"
    chosen = {"tcn": {"model.name": "tcn"}, "constant": {"optimizer.schedule": "constant"}}
    config = override(default_config(), chosen.get(name, {}))
    assert flatten(config)[key] == "none"
    assert identities() == before
    assert identity(description(override(config, {key: "some"})))["config"][key] == "some"
    if name not in chosen:  # stored before the setting existed
        assert identity({**description(config), "config": stored}) == identity(description(config))


EXPERIMENT = """
from tests.tones import tiny
def get_config():
    return tiny()
"""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.model.hiden=3"], 'Did you mean "model.hidden"'),
        (["--config.model.hidden=many"], "model.hidden"),
        (["--config.model.hidden=0"], "config.model.hidden=0 must be at least 1"),
        (["--config.data.train=trian"], 'Did you mean "train"'),
    ],
    ids=lambda value: None if isinstance(value, list) else value.split()[0],
)
def test_a_command_reports_an_error_in_one_line(tmp_path, environment, flags, message):
    experiment = tmp_path / "experiment.py"
    experiment.write_text(EXPERIMENT)
    command = [sys.executable, "-m", "gru_audio.train", "--config", experiment]
    ended = subprocess.run(
        [*command, "--workdir", tmp_path / "run", *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 2, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, ended.stderr
    assert message in lines[0]
    assert not (tmp_path / "run").exists()

"""Hyperparameters: which are traced, which are left out, and which runs share a program."""

import numpy as np

from gru_audio.config import settings_in
from gru_audio.training.hyper import hyperparameters, structure
from tests.tones import tiny

REQUIRED = {f"optimizer.{name}" for name in ("learning_rate", "b1", "b2", "eps")} | {"train.steps"}
OPTIONAL = {
    name for name, spec in settings_in(tiny()).items() if spec.traced and name not in REQUIRED
}


def test_what_is_zero_in_every_member_is_absent():
    hyper = hyperparameters([tiny(), tiny({"model.dropout": 0.3})])
    assert hyper.keys() == {*REQUIRED, "model.dropout"}
    np.testing.assert_array_equal(hyper["model.dropout"], np.array([0, 0.3], np.float32))


def test_every_leaf_has_one_number_per_member():
    configs = [tiny(dict.fromkeys(OPTIONAL, 0.5 * (i + 1)) | INTEGERS) for i in range(3)]
    hyper = hyperparameters(configs)
    assert hyper.keys() == {*REQUIRED, *OPTIONAL}
    assert all(v.shape == (3,) and v.dtype == np.float32 for v in hyper.values())


INTEGERS = {"optimizer.warmup_steps": 7}


def test_traced_numbers_do_not_separate_groups():
    same = structure(tiny())
    for changes in (
        {"seed": 3},
        {"optimizer.learning_rate": 0.5},
        {"train.steps": 7},
        {"optimizer.b1": 0.0},
        {"data.train_examples": 9},
    ):
        assert structure(tiny(changes)) == same, changes
    assert structure(tiny({"model.dropout": 0.1})) == structure(tiny({"model.dropout": 0.9}))
    held_out = [structure(tiny({"data.hold_out": f"group={who}"})) for who in ("ann", "ben")]
    assert held_out[0] == held_out[1]


def test_everything_else_separates_groups():
    same = structure(tiny())
    for changes in (
        {"model.dropout": 0.1},
        {"model.cell": "lstm"},
        {"model.hidden": 9},
        {"optimizer.name": "sgd"},
        {"optimizer.clip_norm": 1.0},
        {"train.batch_size": 4},
        {"data.hold_out": "group=ann"},
        {"data.seed": 1},
        {"model.name": "crnn", "model.conv": ("8 3x3", "8 3x3")},
        {"model.output_bias": -3.0},
        {"task.name": "tagging"},
    ):
        assert structure(tiny(changes)) != same, changes


def test_structure_can_be_a_key():
    assert {structure(tiny()): 1}[structure(tiny({"seed": 5}))] == 1

"""Baselines of sweeps on real data sets, against NumPy and scikit-learn on the same examples."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gru_audio.audio.frontends import make_frontend
from gru_audio.config import flatten
from gru_audio.reports import split
from gru_audio.reports.baselines import FILE, find_baselines
from gru_audio.reports.results import read_results
from tests.reports.workdirs import Made, write_workdir
from tests.rolls import NEXT_STEP, made_rolls
from tests.tones import tiny

FOLDS = ("group=ann", "group=ben", "group=cid")


def workdir_of(folder, source, data_dir, variants, changes, metric="accuracy"):
    """Writes a simulated sweep on `source` whose runs have these config changes, by replicate."""
    made = Made(
        variants=dict.fromkeys(variants, 4.0),
        seeds=len(changes),
        metric=metric,
        class_names=Made.class_names if metric == "accuracy" else (),
    )
    write_workdir(folder, made)
    sweep = json.loads((folder / "sweep.json").read_text())
    sweep["data_fingerprint"] = source.fingerprint
    (folder / "sweep.json").write_text(json.dumps(sweep))
    for variant, of_variant in variants.items():
        for i, of_replicate in enumerate(changes):
            config = tiny({"data.dir": str(data_dir), "seed": i, **of_replicate, **of_variant})
            path = folder / "runs" / f"{variant}-{i}" / "config.json"
            path.write_text(json.dumps(flatten(config)))
    return folder


def found_in(folder):
    results = read_results(folder)
    variants = {
        variant: [run for run in results.runs if run.variant == variant]
        for variant in results.variants
    }
    return find_baselines(folder, results, variants)


def statistics(source, config):
    """Mean and standard deviation over time of every example's features, by NumPy."""
    frontend = make_frontend(config.frontend, source.signal.rate)
    lengths = source.columns["length"]
    sounds = np.zeros((len(source), lengths.max()), np.float32)
    for row, clip in zip(sounds, source.signals(range(len(source))), strict=True):
        row[: len(clip)] = clip / 32768
    features, frames = frontend(jnp.asarray(sounds), jnp.asarray(lengths))
    own = [f[:n].astype(np.float64) for f, n in zip(np.asarray(features), frames, strict=True)]
    return np.stack([np.concatenate([f.mean(axis=0), f.std(axis=0)]) for f in own])


def accuracy_of_logistic_regression(x, y, train, test):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return model.fit(x[train], y[train]).score(x[test], y[test])


def test_every_fold_has_its_own_values(tmp_path, source, data_dir):
    changes = [{"data.hold_out": fold} for fold in FOLDS]
    variants = {"gru": {}, "mfcc": {"frontend.name": "mfcc", "frontend.coefficients": 5}}
    found = found_in(workdir_of(tmp_path, source, data_dir, variants, changes))
    assert not found.missing

    split, label = source.columns["split"], source.columns["label"]
    groups = source.fields["group"].names
    expected: dict[str, list] = {"trivial": [], "gru": [], "mfcc": []}
    for fold in FOLDS:
        held_out = source.columns["group"] == groups.index(fold.partition("=")[2])
        train = np.isin(split, ["train", "test"]) & ~held_out
        majority = np.bincount(label[train]).argmax()
        expected["trivial"].append(np.mean(label[held_out] == majority))
        for variant, variant_changes in variants.items():
            x = statistics(source, tiny(variant_changes))
            value = accuracy_of_logistic_regression(x, label, train, held_out)
            expected[variant].append(value)
    assert list(found.trivial.values.values()) == pytest.approx(expected["trivial"])
    assert found.trivial.value == pytest.approx(np.mean(expected["trivial"]))
    assert [each.variants for each in found.linear] == [("gru",), ("mfcc",)]
    for each in found.linear:
        # A clip or two may lie on the border.
        of_folds = expected[each.variants[0]]
        assert list(each.values.values()) == pytest.approx(of_folds, abs=0.1)
    assert "over time of 8 log_mel features" in found.linear[0].about


@pytest.fixture(scope="module")
def two_variants(tmp_path_factory, source, data_dir):
    """A sweep of two variants with the same features and two seeds, with computed baselines."""
    folder = tmp_path_factory.mktemp("two")
    workdir_of(folder, source, data_dir, {"gru": {}, "lstm": {"model.cell": "lstm"}}, [{}, {}])
    return folder, found_in(folder)


def test_variants_with_the_same_features_share_a_baseline(two_variants):
    folder, found = two_variants
    (linear,) = found.linear
    assert linear.variants == found.trivial.variants == ("gru", "lstm")
    assert len(linear.values) == 2 and len(set(linear.values.values())) == 1
    assert len(json.loads((folder / FILE).read_text())) == 1


def test_what_was_computed_needs_no_data_set(two_variants, tmp_path):
    folder, found = two_variants
    shutil.copytree(folder, tmp_path / "moved")
    for path in (tmp_path / "moved").glob("runs/*/config.json"):
        config = json.loads(path.read_text()) | {"data.dir": "/nowhere"}
        path.write_text(json.dumps(config))
    assert found_in(tmp_path / "moved") == found
    (tmp_path / "moved" / FILE).unlink()
    without = found_in(tmp_path / "moved")
    assert without.trivial is None and without.linear == ()
    assert "is not prepared" in without.missing or "no data set" in without.missing


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "null",
        "[]",
        '{"KEY": 3}',
        '{"KEY": {}}',
        '{"KEY": [null]}',
        '{"KEY": [[]]}',
        '{"KEY": [{"name": 1}]}',
        '{"KEY": [{"name": "a", "about": "", "metrics": {}}]}',
        '{"KEY": [{"name": 1, "about": "", "metrics": {"accuracy": 0.5}}]}',
        '{"KEY": [{"name": "a", "about": "", "metrics": {"accuracy": "x"}}]}',
        '{"KEY": [{"name": "a", "about": "", "metrics": {"accuracy": NaN}}]}',
    ],
)
def test_a_damaged_file_is_computed_again(two_variants, tmp_path, damage):
    folder, found = two_variants
    shutil.copytree(folder, tmp_path / "damaged")
    path = tmp_path / "damaged" / FILE
    (key,) = json.loads(path.read_text())
    path.write_text(damage.replace("KEY", key))
    assert found_in(tmp_path / "damaged") == found


def test_another_data_set_is_refused(tmp_path, source, data_dir):
    workdir_of(tmp_path, source, data_dir, {"gru": {}}, [{}])
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(sweep | {"data_fingerprint": "other"}))
    found = found_in(tmp_path)
    assert found.trivial is None and "has changed since" in found.missing


@pytest.mark.parametrize("config", ["", "{}", '{"data.name": 3}', '{"data.name": "tones"}'])
def test_a_damaged_config_is_no_baseline(tmp_path, source, data_dir, config):
    workdir_of(tmp_path, source, data_dir, {"gru": {}}, [{}])
    (tmp_path / "runs" / "gru-0" / "config.json").write_text(config)
    found = found_in(tmp_path)
    assert found.trivial is None and found.linear == () and found.missing


def test_few_examples_are_enough_and_said(tmp_path, source, data_dir, monkeypatch):
    monkeypatch.setattr(split, "EXAMPLES", 12)
    found = found_in(workdir_of(tmp_path, source, data_dir, {"gru": {}}, [{}]))
    (linear,) = found.linear
    count = (source.columns["split"] == "train").sum()
    assert f"12 of {count} training examples" in linear.about


def test_the_linear_model_of_an_autoencoder_is_a_pca_of_whole_clips(tmp_path, source, data_dir):
    """Against the singular value decomposition, with the same normalisation."""
    changes = {"task.name": "reconstruction", "model.name": "autoencoder", "model.latent": 3}
    workdir_of(tmp_path, source, data_dir, {"gru": {}}, [changes], metric="loss")
    (linear,) = found_in(tmp_path).linear
    assert "the first 3 principal components of whole clips" in linear.about

    frontend = make_frontend(tiny().frontend, source.signal.rate)
    sounds = np.zeros((len(source), source.columns["length"].max()), np.float32)
    for row, clip in zip(sounds, source.signals(range(len(source))), strict=True):
        row[: len(clip)] = clip / 32768
    frames, lengths = map(np.asarray, frontend(jnp.asarray(sounds), source.columns["length"]))
    frames = frames.astype(np.float64)
    valid = np.arange(frames.shape[1]) < lengths[:, None]
    train, test = (source.columns["split"] == name for name in ("train", "test"))
    time = lengths[train].max()
    of_training = frames[train][valid[train]]
    frames = (frames - of_training.mean(0)) / of_training.std(0)
    flat = np.where(valid[..., None], frames, 0)[:, :time].reshape(len(frames), -1)
    mean = flat[train].mean(0)
    components = np.linalg.svd(flat[train] - mean, full_matrices=False)[2][:3]
    outputs = np.zeros_like(frames)
    codes = (flat - mean) @ components.T
    outputs[:, :time] = (codes @ components + mean).reshape(len(frames), time, -1)
    errors = ((outputs - frames) ** 2).mean(-1)
    expected = errors[test][valid[test]].mean()
    assert linear.value == pytest.approx(expected, rel=1e-3)


def test_the_trivial_predictor_of_rolls_knows_how_often_notes_sound(tmp_path, rolls, data_dir):
    workdir_of(tmp_path, rolls, data_dir, {"gru": {}}, [NEXT_STEP], metric="loss")
    found = found_in(tmp_path)
    pieces = made_rolls()
    train, test = np.concatenate(pieces["train"]), np.concatenate(pieces["test"])
    often = np.clip(train.mean(axis=0), 1e-6, 1 - 1e-6)
    expected = -(test * np.log(often) + (1 - test) * np.log(1 - often)).sum(axis=1).mean()
    assert found.trivial.value == pytest.approx(expected, rel=1e-4)
    assert found.linear == () and found.missing == ""


def test_the_loss_of_the_trivial_class_is_about_the_entropy(tmp_path, source, data_dir):
    workdir_of(tmp_path, source, data_dir, {"gru": {}}, [{}])
    results = read_results(tmp_path, "loss")
    found = find_baselines(tmp_path, results, {"gru": list(results.runs)})
    split, label = source.columns["split"], source.columns["label"]
    often = np.bincount(label[split == "train"]) / (split == "train").sum()
    tested = np.bincount(label[split == "test"]) / (split == "test").sum()
    expected = entropy(tested) + entropy(tested, often)
    assert found.trivial.value == pytest.approx(expected, rel=1e-5)

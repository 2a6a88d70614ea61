"""A trained model has the same scores in training, evaluation and prediction."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from etils import epath

from gru_audio.config import flatten
from gru_audio.data.resident import Batch
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.nn.gates import gates_of_layer
from gru_audio.nn.layer import Layer
from gru_audio.settings import UserError
from tests.tones import assert_same, make_loader, member, steps, tiny


def trained_by(loader, config):
    state, _ = steps(loader, [config], [10])
    one = member(state, 0)
    return state, TrainedModel(
        config=config,
        field=loader.data.source.field(config.data.target),
        signal=loader.program.signal,
        longest=loader.data.plan.padded[-1],
        longest_clip=int(loader.data.source.columns["length"].max()),
        weights=one.weights,
        normalisation=one.normalisation,
        about={"run": "one"},
    )


@pytest.fixture(scope="module")
def config():
    return tiny({"data.buckets": 2})


@pytest.fixture(scope="module")
def loader(source, config):
    return make_loader(source, [config])


@pytest.fixture(scope="module")
def both(loader, config):
    return trained_by(loader, config)


def assert_scores(trained, loader, state, source, role="test"):
    state, ids = loader.placement.scatter(state), loader.data.ids[0][role]
    expected = loader.score(state.weights, state.normalisation, role)[0]
    scores = trained.scores(source.signals(ids), loader.data.labels[ids])
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-5, atol=1e-5)


def test_a_saved_model_scores_like_its_loader(tmp_path, source, loader, both):
    """The padding of `predict` differs, which must not change the scores."""
    state, trained = both
    trained.save(str(tmp_path))
    loaded = TrainedModel.load(str(tmp_path))
    assert (loaded.longest, loaded.longest_clip) == (trained.longest, trained.longest_clip)
    assert flatten(loaded.config) == flatten(trained.config)
    assert loaded.field == trained.field
    assert loaded.signal.rate == 8000
    assert loaded.about == {"run": "one"}
    assert_same(loaded.weights.params, trained.weights.params)
    assert_scores(loaded, loader, state, source)
    assert_scores(loaded, loader, state, source, "train")  # more than one batch


def test_the_order_of_clips_and_their_neighbours_do_not_matter(source, both):
    trained, ids = both[1], np.arange(0, len(source), 5)
    targets = source.columns["label"][ids]
    together = trained.scores(source.signals(ids), targets)
    back = trained.scores(source.signals(ids[::-1]), targets[::-1])
    alone = trained.scores(source.signals(ids[3:4]), targets[3:4])
    for name, values in together.items():
        np.testing.assert_allclose(back[name][::-1], values, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone[name][0], values[3], rtol=1e-5, atol=1e-6)


def test_long_clips_are_cropped_as_in_training(source):
    config = tiny({"data.crop_seconds": 0.2})
    loader = make_loader(source, [config])
    assert max(loader.data.plan.padded) < np.median(source.columns["length"])
    state, trained = trained_by(loader, config)
    assert_scores(trained, loader, state, source)


def test_probabilities_are_of_whole_clips_in_any_batch(source):
    trained = trained_by(make_loader(source, [config := tiny({"data.crop_seconds": 0.2})]), config)[
        1
    ]
    clips = source.signals(np.arange(6))
    assert max(map(len, clips)) > trained.longest
    together = trained.probabilities(clips)
    for clip, row in zip(clips, together, strict=True):
        (alone,) = trained.probabilities([clip], batch=1)
        np.testing.assert_allclose(alone, row, rtol=1e-5, atol=1e-6)
    fitting = [clip[: trained.longest] for clip in clips]
    scores = trained.scores(fitting, np.zeros(len(clips), np.int32))
    expected = trained.probabilities(fitting)
    np.testing.assert_array_equal(scores["probabilities"], expected)
    assert np.abs(together - expected).max() > 1e-3


def test_a_clip_is_as_long_as_the_longest_of_the_data_set_or_the_crop(both, source):
    trained, longest = both[1], source.columns["length"].max()
    assert trained.clip_limit == longest == trained.longest_clip
    earlier = dataclasses.replace(trained, longest_clip=None)  # as models did not keep it
    assert earlier.clip_limit == trained.longest
    for seconds in (0.6, 1.0):  # whole blocks of 128 samples are 0.592 and 0.992 s
        cropped = dataclasses.replace(
            earlier,
            config=tiny({"data.crop_seconds": seconds}),
            longest=int(8000 * seconds) // 128 * 128,
        )
        assert cropped.longest < cropped.clip_limit == 8000 * seconds


def test_batch_norm_uses_its_running_statistics(tmp_path, source):
    config = tiny(
        {"model.name": "crnn", "model.conv": ("4 3x3 stride 1x2",), "frontend.hop_ms": 40.0}
    )
    loader = make_loader(source, [config])
    state, trained = trained_by(loader, config)
    trained.save(epath.Path(tmp_path))
    loaded = TrainedModel.load(epath.Path(tmp_path))
    assert jax.tree.leaves(loaded.weights.model_state)
    assert_scores(loaded, loader, state, source)
    initial = loader.program.model.init(
        jax.random.key(0), np.zeros((1, 9, 8)), np.array([9]), train=False
    )
    initial.pop("params")
    with pytest.raises(AssertionError):  # which is to say that they matter
        weights = trained.weights.replace(model_state=initial)
        assert_scores(dataclasses.replace(trained, weights=weights), loader, state, source)


def test_gates_of_clips_are_those_of_each_alone(source, both):
    trained = both[1]
    program, clips = trained.program(), source.signals(np.arange(0, len(source), 9))
    found = trained.gates(clips)
    for clip, layers in zip(clips[:3], found, strict=False):
        one = Batch(clip[None], np.array([len(clip)]), *[np.zeros(1, np.int32)] * 3)
        features, frames = program.features(one)
        layer = Layer(trained.config.model.cell, trained.config.model.hidden)
        params = trained.weights.params["encoder"]["forward_0"]
        gates = gates_of_layer(layer, params, trained.normalisation(features))
        for name, gate in gates.items():
            alone = gate[0, : int(frames[0])]
            np.testing.assert_allclose(
                layers["encoder/forward_0"][name], alone, rtol=1e-4, atol=1e-4
            )


def test_an_unfinished_model(tmp_path):
    with pytest.raises(UserError, match="No trained model"):
        TrainedModel.load(epath.Path(tmp_path))


@pytest.fixture
def saved(both, tmp_path):
    both[1].save(epath.Path(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model.hidden": 2**16}, "should be"),  # its recurrent weights alone would take 50 GB
        ({"model.layers": 2}, "is None"),
        ({"model.hiden": 8}, "Did you mean"),
        ({"model.hidden": -1}, "must be at least 1"),
        ({"model.cell": "__import__('os')"}, "cell"),
        ({"frontend.n_fft": 2**30}, "n_fft=1073741824 must be at most"),
        ({"frontend.n_fft": 2**17, "frontend.mels": 1024}, "are too large"),
        ({"frontend.window_ms": 59_000.0}, "are too large"),
        ({"model.layers": 5000}, "layers=5000 must be at most 64"),
        ({"model.name": "tcn", "model.layers": 64}, "read more than"),
        ({"model.hidden": 2**70}, "must be at most"),
        ({"model.dense": ["999999999999 relu"]}, "is not a layer"),
        ({"model.dense": ["9 relu"] * 1000}, "has 1000 parts: at most 64"),
        ({"model.name": "crnn", "model.conv": ["1 3x3"] * 1000}, "has 1000 parts: at most 64"),
        ({"model.name": "crnn", "model.conv": [["1 3x3"]]}, "not a block"),
    ],
)
def test_a_config_that_the_arrays_do_not_fit(saved, changes, why):
    """The error comes before any allocation of that size."""
    description = json.loads((saved / "model.json").read_text())
    description["config"] |= changes
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=why):
        TrainedModel.load(epath.Path(saved))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("longest", float("inf")),
        ("longest", 2**31),
        ("longest", 0),
        ("longest", 1.5),
        ("field", 3),
        ("field", {"kind": "class", "names": [1, 2, 3]}),
        ("field", {"kind": "class", "names": "abc"}),
        ("field", {"kind": "class", "names": ["a"]}),
        ("field", {"kind": "tags", "names": ["low", "middle", "high"]}),
        ("field", {"kind": "number"}),
        ("field", None),
        ("about", {}),
        ("about", []),
        ("signal", {"rate": 10**15, "dtype": "int16", "shape": [], "block": 128}),
        ("signal", {"rate": 0, "dtype": "int16", "shape": [], "block": 128}),
        ("signal", {"rate": 8000.5, "dtype": "int16", "shape": [], "block": 128}),
        ("signal", {"rate": 8000, "dtype": "O", "shape": [], "block": 128}),
        ("signal", {"rate": 8000, "dtype": "int16", "shape": [2**40], "block": 128}),
        ("signal", {"rate": 8000, "dtype": "int16", "shape": [], "block": 2**40}),
    ],
)
def test_a_description_with_invalid_values(saved, key, value):
    description = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps(description | {key: value}))
    with pytest.raises(UserError, match="cannot be used"):
        TrainedModel.load(epath.Path(saved))


NONE = ["", "[]", "{}", '{"config": 3}', '{"config": {}}', "[" * 10**5, '{"a":' * 10**5]


@pytest.mark.parametrize("text", NONE, ids=lambda text: text[:20])
def test_an_invalid_description(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(UserError, match="cannot be used"):
        TrainedModel.load(epath.Path(saved))


def test_arrays_of_another_type(saved):
    with np.load(saved / "arrays.npz") as arrays:
        np.savez(saved / "arrays.npz", **{k: v.astype(np.float64) for k, v in arrays.items()})
    with pytest.raises(UserError, match="float32"):
        TrainedModel.load(epath.Path(saved))

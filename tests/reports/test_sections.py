"""The sections of autoencoders and of generated sounds, from trained sweeps."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gru_audio.audio.frontends import make_frontend
from gru_audio.config import default_config
from gru_audio.inference.codes import encode
from gru_audio.inference.generator import Generator
from gru_audio.inference.model import Model
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.generations import log_mel_statistics, read_generations
from gru_audio.reports.reconstructions import read_reconstructions
from gru_audio.reports.sections import read_sections
from gru_audio.reports.statistics import wilson
from gru_audio.reports.write import read_comparison, write_report
from gru_audio.settings import UserError
from gru_audio.sweeps.execute import execute
from gru_audio.sweeps.planning import plan
from gru_audio.sweeps.sweep import Sweep
from gru_audio.sweeps.workdir import Workdir
from tests.tones import CLASSES, tiny

AUTOENCODER = {
    "task.name": "reconstruction",
    "model.name": "autoencoder",
    "model.latent": 4,
    "data.cluster": "",
}
GENERATOR = {
    "task.name": "generation",
    "frontend.name": "samples",
    "frontend.normalise": False,
    "model.name": "rnn_generator",
    "data.cluster": "",
    "data.crop_seconds": 0.032,
    "train.tbptt_frames": 128,
    "train.steps": 4,
    "train.eval_every": 4,
}


def swept(folder, data_dir, changes, variants) -> Workdir:
    config = tiny({"data.dir": str(data_dir), "data.train_scored": 6} | changes)
    workdir = Workdir(folder)
    assert execute(plan(config, Sweep(variants), "tones", "About.", "command"), workdir) == []
    return workdir


@pytest.fixture(scope="module")
def autoencoders(tmp_path_factory, data_dir):
    variants = {"GRU": {}, "RNN": {"model.cell": "rnn"}}
    return swept(tmp_path_factory.mktemp("codes"), data_dir, AUTOENCODER, variants)


@pytest.fixture(scope="module")
def generators(tmp_path_factory, data_dir):
    return swept(tmp_path_factory.mktemp("sounds"), data_dir, GENERATOR, {"GRU": {}})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, data_dir):
    changes = {"model.pooling": "mean", "data.cluster": ""}
    return swept(tmp_path_factory.mktemp("judge"), data_dir, changes, {"GRU": {}})


def model(workdir, variant="GRU"):
    return TrainedModel.load(workdir.find_model(f"{variant}-seed0"))


@pytest.mark.parametrize(("right", "count"), [(0, 7), (7, 7), (3, 20), (291, 300)])
def test_wilson_intervals_are_those_of_scipy(right, count):
    found = wilson(right, count)
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.value == right / count


def test_reconstructions_and_probes(autoencoders, source):
    """The pictures are those of the models; the probe is scikit-learn's."""
    comparison = read_comparison(autoencoders.root)
    found = read_reconstructions(autoencoders, comparison)
    assert found.missing == "" and len(found.examples) == 4
    example = found.examples[0]
    clips = source.columns["clip"].tolist()
    (steps,) = source.signals([clips.index(example.clip)])
    np.testing.assert_array_equal(example.steps, steps)
    for name, picture, error in example.by_variant:
        (code,) = encode(model(autoencoders, name), [steps])
        assert error == pytest.approx(np.mean((code.frames - code.decoded) ** 2), rel=1e-5)
        assert picture.shape == code.decoded.T.shape
    assert [probe.name for probe in found.probes] == [
        *(v.name for v in comparison.variants),
        "",
        "",
    ]

    split, label = source.columns["split"], source.columns["label"]
    train, test = (np.flatnonzero(split == name) for name in ("train", "test"))
    probe = next(each for each in found.probes if each.name == "GRU")
    latents = [
        np.stack([code.latent for code in encode(model(autoencoders), source.signals(ids))])
        for ids in (train, test)
    ]
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    accuracy = regression.fit(latents[0], label[train]).score(latents[1], label[test])
    assert probe.accuracy.value == pytest.approx(accuracy, abs=1.5 / len(test))


def test_codes_in_python(autoencoders, source):
    clips, rate = source.signals(range(2)), source.signal.rate
    expected = encode(model(autoencoders), clips)
    for found, code in zip(Model(model(autoencoders)).encode(clips, rate), expected, strict=True):
        np.testing.assert_array_equal(found.latent, code.latent)
    assert len(expected[0].frames) == len(expected[0].decoded)


def test_other_models_have_no_latent_vectors(classifier, source):
    with pytest.raises(UserError, match=r"config\.model\.name=rnn_classifier is not an autoenc"):
        encode(model(classifier), source.signals([0]))


def test_statistics_are_those_of_numpy(source):
    clips = source.signals(range(5))
    frontend = make_frontend(default_config().frontend, source.signal.rate)
    for clip, found in zip(clips, log_mel_statistics(clips, source.signal.rate), strict=True):
        features, _ = frontend((clip / np.float32(32768))[None], np.array([len(clip)]))
        frames = np.asarray(features[0], np.float64)
        expected = np.concatenate([frames.mean(0), frames.std(0)])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_generated_sounds_and_their_judge(generators, source):
    found = read_generations(generators, read_comparison(generators.root))
    assert (found.missing, found.target) == ("", "label")
    assert [each.label for each in found.sounds] == [
        f"label {name}" for name in [*sorted(CLASSES), sorted(CLASSES)[0]]
    ]
    samples = len(found.sounds[0].by_variant[0][1].steps)
    expected = Generator.of(model(generators)).sounds(samples, 1, conditions=sorted(CLASSES)[0])
    np.testing.assert_array_equal(found.sounds[0].by_variant[0][1].steps, expected[0])
    real, generated = found.judgements
    assert real.sounds == (source.columns["split"] == "test").sum()
    assert real.recognised.value > 0.8  # the tones are easy
    assert generated.sounds == 20 and generated.recognised.low > 0


def test_a_trained_judge(generators, classifier, source):
    judge = f"{classifier.root}:GRU-seed0"
    found = read_generations(generators, read_comparison(generators.root), judge)
    assert found.judge == f"the trained model {judge}"
    test = np.flatnonzero(source.columns["split"] == "test")
    answers = model(classifier).probabilities(source.signals(test)).argmax(-1)
    assert found.judgements[0].recognised.value == pytest.approx(
        np.mean(answers == source.columns["label"][test])
    )


def test_judges_that_cannot_judge_are_refused(generators, autoencoders):
    comparison = read_comparison(generators.root)
    with pytest.raises(UserError, match="must classify the sounds of tones, at 8000 Hz, into"):
        read_generations(generators, comparison, f"{autoencoders.root}:GRU-seed0")
    with pytest.raises(UserError, match="nowhere does not exist"):
        read_generations(generators, comparison, "nowhere")
    with pytest.raises(UserError, match="has generated any sound"):
        read_sections(autoencoders.root, read_comparison(autoencoders.root), "nowhere")


def test_a_report_written_twice_is_the_same(generators, autoencoders, tmp_path):
    for workdir in (generators, autoencoders):
        pages = [write_report(workdir.root, tmp_path / name)[0].read_bytes() for name in "ab"]
        assert pages[0] == pages[1]
        for words in (b'id="generations"', b"generated by GRU", b"Real test clips"):
            assert (words in pages[0]) == (workdir is generators)
        for words in (b'id="reconstructions"', b"of the latent vector"):
            assert (words in pages[0]) == (workdir is autoencoders)

import json
import re

import jax
import librosa
import numpy as np
import pytest
from etils import epath

from gru_audio.audio.normalise import Normalisation
from gru_audio.data.signal import Signal
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.reports.comparison import compare
from gru_audio.reports.gate_plots import read_excerpts
from gru_audio.reports.page import times
from gru_audio.reports.results import read_results
from gru_audio.reports.write import write_report
from gru_audio.training.hyper import hyperparameters
from gru_audio.training.program import make_program
from tests.reports.workdirs import Made, write_workdir
from tests.tones import tiny

CRNN = {"model.name": "crnn", "model.conv": ("4 3x3 stride 2x2",)}
CONFIGS = {
    "gru": {"model.cell": "gru", "model.layers": 2, "model.bidirectional": True},
    "crnn": CRNN | {"model.cell": "gru"},
    "lstm": {"model.cell": "lstm"},
    "tanh": {"model.cell": "rnn"},
}
EXAMPLES = [3, 40, 70]


def model(source, changes):
    """Returns an untrained model."""
    config = tiny(changes)
    field = source.field("label")
    program = make_program(config, source.signal, field)
    hyper = jax.tree.map(lambda leaf: leaf[0], hyperparameters([config]))
    features = program.frontend.features
    normalisation = Normalisation(np.full(features, -6, np.float32), np.ones(features, np.float32))
    state = jax.jit(program.init)(np.uint32(0), hyper, normalisation)
    return TrainedModel(
        config=config,
        field=field,
        signal=source.signal,
        longest=4096,
        weights=state.weights,
        normalisation=normalisation,
        about={"run": "one"},
    )


def workdir_of(folder, source, data_dir, models, **made):
    """Writes a simulated sweep on `source` with these models, the best variant first."""
    variants = {name: 6.0 - 2 * i for i, name in enumerate(models)}
    write_workdir(folder, Made(variants=variants, examples=len(source), **made))
    sweep = json.loads((folder / "sweep.json").read_text())
    sweep["data_fingerprint"] = source.fingerprint
    (folder / "sweep.json").write_text(json.dumps(sweep))
    for run in (folder / "runs").iterdir():
        variant = run.name.rpartition("-")[0]
        config = json.loads((run / "config.json").read_text())
        config |= {"data.name": source.name, "data.dir": str(data_dir)}
        config |= {"model.cell": models[variant].config.model.cell} if models[variant] else {}
        (run / "config.json").write_text(json.dumps(config))
        with np.load(run / "predictions" / "test.npz") as told:
            arrays = dict(told)
        np.savez(run / "predictions" / "test.npz", **arrays | {"example": arrays["example"] - 2000})
        if models[variant]:
            models[variant].save(epath.Path(run / "model"))
    return folder


def excerpts_of(workdir, examples=EXAMPLES):
    return read_excerpts(workdir, compare(read_results(workdir)), examples)


@pytest.fixture(scope="module")
def models(source):
    return {name: model(source, changes) for name, changes in CONFIGS.items()}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, source, data_dir, models):
    """An LSTM and a plain network are made better than the GRU."""
    variants = {name: models[name] for name in ("tanh", "lstm", "gru")}
    return workdir_of(tmp_path_factory.mktemp("sweep"), source, data_dir, variants, seeds=7)


@pytest.fixture(scope="module")
def shown(sweep):
    return excerpts_of(sweep)


def test_gates_are_those_of_the_last_forward_layer_of_the_gru(shown, source, models):
    assert shown.missing == "" and list(shown.excerpts) == EXAMPLES
    assert (shown.gate_model.variant, shown.gate_model.layer) == ("gru", "encoder/forward_1")
    clips = source.signals(EXAMPLES)
    gates = models["gru"].gates(clips)
    update = [each["encoder/forward_1"]["update"] for each in gates]
    constant = -1 / np.log(np.concatenate(update)).mean(axis=0)
    order = np.argsort(-constant)
    for i, excerpt in enumerate(shown.excerpts.values()):
        np.testing.assert_array_equal(excerpt.steps, clips[i])
        assert excerpt.length == len(clips[i])
        assert list(excerpt.layer_gates.gates) == ["update", "reset"]
        np.testing.assert_allclose(
            excerpt.layer_gates.gates["update"], update[i].T[order], atol=1e-5
        )
    hop = 0.02 * source.signal.rate
    assert shown.gate_model.slowest == pytest.approx(constant.max() * hop, rel=1e-4)
    assert shown.gate_model.fastest == pytest.approx(constant.min() * hop, rel=1e-4)


def test_gates_keep_time_behind_a_front_that_skips_frames(tmp_path, source, data_dir, models):
    shown = excerpts_of(workdir_of(tmp_path, source, data_dir, {"crnn": models["crnn"]}))
    rate = source.signal.rate
    for excerpt in shown.excerpts.values():
        frames = 1 + max(0, excerpt.length - 256) // round(0.02 * rate)
        steps = -(-frames // 2)  # of two frames each
        assert excerpt.layer_gates.gates["update"].shape == (8, steps)
        assert excerpt.layer_gates.duration == steps * 2 * round(0.02 * rate)
        # A frame of two hops lies around the centre of the frame that the kernel is centred on.
        assert excerpt.layer_gates.start == pytest.approx(256 / 2 - round(0.02 * rate))


def test_other_cells_are_asked_where_there_is_no_gru(tmp_path, source, data_dir, models):
    variants = {name: models[name] for name in ("tanh", "lstm")}
    shown = excerpts_of(workdir_of(tmp_path, source, data_dir, variants))
    assert shown.gate_model.variant == "lstm"
    gates = shown.excerpts[EXAMPLES[0]].layer_gates.gates
    assert list(gates) == ["forget", "input", "output"]


@pytest.mark.parametrize(
    ("variants", "reason"),
    [
        ({"tanh": "tanh"}, 'Cells of "rnn" have no gates.'),
        ({"gru": None}, "No trained model in"),
    ],
)
def test_sound_is_there_where_gates_are_not(tmp_path, source, data_dir, models, variants, reason):
    variants = {name: models.get(kept) for name, kept in variants.items()}
    shown = excerpts_of(workdir_of(tmp_path, source, data_dir, variants))
    assert shown.missing.startswith("The gates cannot be shown:") and reason in shown.missing
    assert shown.gate_model is None and len(shown.excerpts) == 3
    assert all(excerpt.layer_gates is None for excerpt in shown.excerpts.values())


def test_a_data_set_that_changed_is_not_shown(tmp_path, source, data_dir, models):
    workdir = workdir_of(tmp_path, source, data_dir, {"gru": models["gru"]})
    sweep = json.loads((workdir / "sweep.json").read_text())
    (workdir / "sweep.json").write_text(json.dumps(sweep | {"data_fingerprint": "another"}))
    shown = excerpts_of(workdir)
    assert shown.excerpts == {} and "has changed since the runs were tested on it" in shown.missing


def test_the_spectrogram_is_that_of_librosa_in_line_with_the_waveform(shown):
    excerpt = shown.excerpts[EXAMPLES[0]]
    expected = librosa.feature.melspectrogram(
        y=excerpt.steps / 32768.0,
        sr=8000,
        n_fft=1024,
        win_length=200,
        hop_length=80,
        n_mels=64,
        fmin=20,
        fmax=4000,
        center=True,
    )
    expected = np.log(np.maximum(expected, 1e-10))
    least = np.quantile(expected, 0.25)
    expected = np.clip((expected - least) / (expected.max() - least), 0, 1)
    np.testing.assert_allclose(excerpt.picture[::-1], expected, atol=2e-3)


def test_frames_are_shown_as_they_are(tmp_path, rolls, data_dir):
    shown = excerpts_of(workdir_of(tmp_path, rolls, data_dir, {"gru": None}), [0, 1])
    for i, excerpt in shown.excerpts.items():
        frames = rolls.signals([i])[0]
        np.testing.assert_array_equal(excerpt.picture, frames.T[::-1])


def test_clips_are_named_and_spectrograms_have_axes(shown, source):
    assert shown.clips == {i: source.columns["clip"][i] for i in EXAMPLES}
    edges = librosa.mel_frequencies(64 + 2, fmin=20, fmax=4000)  # of the bands, and beyond
    for excerpt in shown.excerpts.values():
        assert [text for text, _ in excerpt.rows] == ["500", "1,000", "2,000\N{NO-BREAK SPACE}Hz"]
        for (_, height), hz in zip(excerpt.rows, (500, 1000, 2000), strict=True):
            band = height / 100 * 64 - 0.5  # rows of the picture are bands, the lowest at 0
            centre = np.interp(band, np.arange(64), edges[1:-1])
            assert centre == pytest.approx(hz, rel=0.02)


def test_frames_have_numbered_values(tmp_path, rolls, data_dir):
    shown = excerpts_of(workdir_of(tmp_path, rolls, data_dir, {"gru": None}), [0, 1])
    assert {excerpt.rows for excerpt in shown.excerpts.values()} == {(("1", 0.0), ("88", 100.0))}


@pytest.mark.parametrize(
    ("signal", "steps", "ticks"),
    [
        (Signal(8000), 2720, [("0", 0), ("0.1", 29.41), ("0.2", 58.82), ("0.34 s", 100)]),
        (Signal(16000), 80000, [("0", 0), *((f"{t}", 20 * t) for t in range(1, 5)), ("5 s", 100)]),
        (Signal(1, "uint8", (88,)), 40, [("0", 0), ("10", 25), ("20", 50), ("30", 75)]),
        (Signal(1, "uint8", (88,)), 1, [("0", 0)]),
    ],
)
def test_the_axis_of_time(signal, steps, ticks):
    found = [(text.replace("\N{NO-BREAK SPACE}", " "), at) for text, at in times(steps, signal)]
    if not signal.is_sound:
        *found, last = found
        assert last == (f"{steps} frames", 100)
    assert [text for text, _ in found] == [text for text, _ in ticks]
    assert [at for _, at in found] == pytest.approx([at for _, at in ticks], abs=0.01)


def test_a_page_of_twenty_runs_with_sound_is_small_and_needs_nothing_else(sweep):
    page = write_report(sweep)[0].read_text()
    assert len(re.findall(r"[a-z]+/[a-z]+_[0-9]\.wav, test split, example [0-9]+", page)) == 6
    assert len(list((sweep / "runs").iterdir())) == 21
    assert len(page) < 1_000_000
    assert page.count("<audio") == 6
    assert page.count("<img") == 6 * 3  # a spectrogram and two gates
    shown = re.sub(r'<a href="[^"]*" download>', "", page)
    assert all(
        link.startswith(("data:", "#")) for link in re.findall(r'(?:src|href)="(.{9})', shown)
    )
    assert len(re.findall(r'<img[^>]* alt="[^"]{10,}', page)) == page.count("<img")

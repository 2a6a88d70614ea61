"""The CTC task against PyTorch, an enumeration of all paths, and greedy decoding on the host."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from gru_audio.config import default_config, override
from gru_audio.data.fields import TextField
from gru_audio.data.signal import Signal
from gru_audio.settings import UserError
from gru_audio.tasks.ctc import Ctc, greedy
from gru_audio.training.program import make_program

TASK = Ctc((" ", "A", "B", "C"))  # ids 1 to 4; 5 is unknown
FIELD = TextField(" ABC", ("A", "B", "C"), (" ", "A", "B", "C"))
UNKNOWN = 5
LABELS = np.array([[2, 3, 0, 0], [2, 2, 4, 1], [0, 0, 0, 0], [3, 3, 3, 3]], np.int32)
FRAMES = np.array([6, 9, 4, 7], np.int32)  # the last needs all of its frames
TIME = 9

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def logits(seed=0, batch=4, time=TIME):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((batch, time, TASK.outputs)).astype(np.float32)


@jax.jit
def losses(outputs, labels, lengths):
    return TASK.loss(outputs, labels, lengths)


@jax.jit
def gradients(outputs, labels, lengths):
    return jax.grad(lambda x: TASK.loss(x, labels, lengths)[0].sum())(outputs)


def collapsed(path):
    return [token for token, _ in itertools.groupby(path) if token]


def enumerated(outputs, label):
    """The loss in float64 from all paths that give the label."""
    log_probs = log_softmax(outputs.astype(np.float64), axis=1)
    paths = itertools.product(range(TASK.outputs), repeat=len(outputs))
    scores = [
        log_probs[range(len(outputs)), path].sum() for path in paths if collapsed(path) == label
    ]
    return -logsumexp(scores)


def test_values_and_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    outputs = logits()
    found, terms = losses(outputs, LABELS, FRAMES)
    given = torch.tensor(outputs, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        given.log_softmax(-1).transpose(0, 1),
        torch.tensor(LABELS),
        torch.tensor(FRAMES),
        torch.tensor((LABELS > 0).sum(1)),
        reduction="none",
    )
    expected.sum().backward()
    close(found, expected.detach().numpy())
    close(gradients(outputs, LABELS, FRAMES), given.grad.numpy())
    assert terms.tolist() == [2, 4, 1, 4]


@pytest.mark.parametrize("label", [[], [2], [2, 3], [2, 2], [1, 3, 1]])
@pytest.mark.parametrize("frames", [3, 4])
def test_the_loss_is_a_sum_over_all_paths(label, frames):
    outputs = logits(frames, 1, frames)
    padded = np.array([label + [0] * (3 - len(label))], np.int32)
    found, _ = losses(outputs, padded, np.array([frames]))
    close(found[0], enumerated(outputs[0], label))


def test_padding_changes_nothing_even_if_it_is_nan():
    outputs = logits()
    wide = np.full((4, TIME + 5, TASK.outputs), np.nan, np.float32)
    for row, length in enumerate(FRAMES):
        wide[row, :length] = outputs[row, :length]
    labels = np.pad(LABELS, ((0, 0), (0, 3)))
    for one, other in zip(
        losses(outputs, LABELS, FRAMES), losses(wide, labels, FRAMES), strict=True
    ):
        close(one, other)
    found = gradients(wide, labels, FRAMES)
    close(found[:, :TIME], gradients(outputs, LABELS, FRAMES))
    assert not found[:, TIME:].any()


@pytest.mark.parametrize(
    ("label", "frames"), [([2, 2, 0], 2), ([2, 3, 4], 2), ([2, UNKNOWN, 0], 9), ([0, 0, 0], 0)]
)
def test_what_cannot_be_aligned_has_no_loss_no_gradient_and_no_terms(label, frames):
    labels, lengths = np.array([label, [2, 0, 0]], np.int32), np.array([frames, 5])
    outputs = logits(1, 2)
    found, terms = losses(outputs, labels, lengths)
    usable = label == [0, 0, 0]  # without frames, an empty text has the probability 1
    assert found[0] == 0 and terms[0] == usable
    assert not gradients(outputs, labels, lengths)[0].any()
    assert found[1] > 0 and terms[1] == 1


def test_losses_are_never_negative():
    outputs = np.zeros((1, 3, TASK.outputs), np.float32)
    outputs[0, [0, 1, 2], [2, 0, 3]] = 100.0
    found, _ = losses(outputs, np.array([[2, 3]], np.int32), np.array([3]))
    assert 0 <= found[0] < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_greedy_decoding_on_the_device_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    outputs, lengths = logits(seed, 16, 20), rng.integers(0, 21, 16)
    found = jax.jit(greedy)(outputs, lengths)
    for row, length, tokens in zip(outputs, lengths, np.asarray(found), strict=True):
        expected = collapsed(row[:length].argmax(axis=1).tolist())
        assert tokens.tolist() == expected + [0] * (20 - len(expected))


def test_scores_have_reference_and_hypothesis_and_a_table():
    scores = jax.tree.map(np.asarray, TASK.score(logits(), LABELS, FRAMES))
    for name, stored in TASK.stored.items():
        assert stored.fits(scores[name].shape, 4) and scores[name].dtype.kind in stored.kinds
    scores |= {"reference": TASK.labels({"text": np.array(["A B", "C"])})}
    scores["hypothesis"] = TASK.labels({"text": np.array(["A", "C B C"])})
    characters, words = TASK.table(scores)
    assert words == {
        **{"unit": "words", "count": 3, "substitutions": 0},
        **{"insertions": 2 / 3, "deletions": 1 / 3},
    }
    assert characters["count"] == 4
    assert TASK.in_words(scores, 0) == ("A B", "A")
    assert TASK.example_metric.terms(scores)[0].tolist() == [1, 2]


def test_token_frequencies_are_the_trivial_outputs():
    sums, frames = TASK.target_sums(jnp.asarray(LABELS), jnp.asarray(FRAMES))
    assert frames == 26 and sums.tolist() == [16, 1, 3, 5, 1]
    outputs = TASK.trivial_outputs(sums / frames, FRAMES, TIME)
    close(np.exp(outputs[2, 3]), np.asarray(sums) / 26)


def remarks(texts, frames, train):
    values = {"text": np.array(texts), "known": np.ones(len(texts), bool)}
    clips = np.array([f"{i}.wav" for i in range(len(texts))])
    ids = {"train": np.arange(train), "validation": np.array([], int)}
    ids["test"] = np.arange(train, len(texts))
    return TASK.remarks(values, TASK.labels(values), np.array(frames), clips, ids)


def test_examples_without_a_loss_and_unknown_tokens_are_named():
    assert remarks(["A", "B"], [1, 1], 1) == []
    unknown, lost = remarks(["A", "B", "AQQ", "AA"], [9, 9, 9, 2], 2)
    assert unknown == 'no token for these characters, so each is an error: "Q" (2 times).'
    assert lost.startswith("2 of 4 examples have no loss")
    assert lost.endswith("outputs: 2.wav, 3.wav.")


def test_more_than_one_percent_of_lost_training_examples_is_an_error():
    texts = np.array(["A"] * 200, "U2")
    texts[:2] = "AA"
    assert len(remarks(texts, [2] * 200, 200)) == 1
    texts[2] = "AA"
    with pytest.raises(UserError, match=r"1\.5% of the training .*config\.frontend\.stack"):
        remarks(texts, [2] * 200, 200)


def program(changes):
    config = override(default_config(), {"task.name": "ctc", "data.target": "text", **changes})
    return make_program(config, Signal(8000), FIELD)


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend.stack": 3},
        {"model.name": "crnn", "model.conv": ("4 3x3 stride 2x1 pool 2x1",)},
    ],
)
def test_output_frames_are_counted_on_the_host(changes):
    made = program(changes)
    lengths = np.array([100, 4000, 7777, 8000])
    frames = made.frontend.frames(lengths)
    features = jnp.zeros((4, int(frames.max()), made.frontend.features))
    variables = made.model.init(jax.random.key(0), features, frames, train=False)
    outputs = made.model.apply(variables, features, frames, train=False)
    assert outputs.values.shape[1] == outputs.lengths.max()
    np.testing.assert_array_equal(outputs.lengths, made.output_frames(lengths))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment.mixup": 0.2}, "config.augment.mixup: texts cannot be mixed"),
        ({"train.tbptt_frames": 5}, "set config.train.tbptt_frames=0"),
        ({"data.crop_seconds": 1.0}, "set config.data.crop_seconds=None"),
    ],
)
def test_what_divides_or_mixes_a_text_is_refused(changes, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        program(changes)


def test_labels_cannot_be_smoothed():
    config = override(default_config(), {"task.name": "ctc"})
    with pytest.raises(KeyError, match="label_smoothing"):
        config.task["label_smoothing"] = 0.1

"""Error rates of transcripts against jiwer, and their contributions against derivatives."""

import math

import jiwer
import numpy as np
import pytest

from gru_audio.tasks.metrics import Metric
from gru_audio.tasks.transcripts import CharacterErrorRate, SentenceErrorRate, WordErrorRate
from gru_audio.text.errors import Edits
from gru_audio.text.tokens import Tokens

SPELLED = Tokens((" ", *"abc"))
WORDS = Tokens(("ab", "c", "bca"), are_words=True)


def predictions_of(tokens, references, hypotheses):
    def padded(texts, extra):
        rows = [tokens.encode(text) for text in texts]
        width = max(map(len, rows)) + extra
        return np.array([row + [0] * (width - len(row)) for row in rows], np.int32)

    return {"reference": padded(references, 0), "hypothesis": padded(hypotheses, 3)}


def random_texts(seed, tokens, count=40):
    rng = np.random.default_rng(seed)
    words = tokens.names if tokens.are_words else ("ab", "c", "bca", "cc")

    def texts(least):
        return [" ".join(rng.choice(words, rng.integers(least, 6))) for _ in range(count)]

    return texts(1), texts(0)


@pytest.mark.parametrize("tokens", [SPELLED, WORDS], ids=["characters", "words"])
@pytest.mark.parametrize("seed", range(5))
def test_rates_are_those_of_jiwer(tokens, seed):
    references, hypotheses = random_texts(seed, tokens)
    found = predictions_of(tokens, references, hypotheses)
    wer, cer, ser = (m(tokens) for m in (WordErrorRate, CharacterErrorRate, SentenceErrorRate))
    assert wer.value(found) == pytest.approx(jiwer.wer(references, hypotheses))
    assert cer.value(found) == pytest.approx(jiwer.cer(references, hypotheses))
    wrong = [one != other for one, other in zip(references, hypotheses, strict=True)]
    assert ser.value(found) == pytest.approx(np.mean(wrong))
    whole = jiwer.process_words(references, hypotheses)
    assert wer.parts(found)[:3] == (whole.substitutions, whole.insertions, whole.deletions)


@pytest.mark.parametrize("kind", [WordErrorRate, CharacterErrorRate, SentenceErrorRate])
def test_contributions_are_derivatives_and_weights_are_repetitions(kind):
    metric = kind(SPELLED)
    references, hypotheses = random_texts(0, SPELLED)
    references[3] = ""
    found = predictions_of(SPELLED, references, hypotheses)
    contributions = metric.contributions(found)
    np.testing.assert_allclose(contributions, Metric.contributions(metric, found), atol=1e-5)
    assert contributions.mean() == pytest.approx(metric.value(found))
    times = np.random.default_rng(1).poisson(1.0, len(references))
    rows = np.repeat(np.arange(len(references)), times)
    resampled = {name: array[rows] for name, array in found.items()}
    assert metric.value(found, times.astype(float)) == pytest.approx(metric.value(resampled))


def test_unknown_characters_and_words_are_errors():
    found = predictions_of(SPELLED, ["a\u2603 b"], ["a b"])
    assert CharacterErrorRate(SPELLED).parts(found) == Edits(0, 0, 1, 4)
    assert WordErrorRate(SPELLED).value(found) == 0.5
    found = predictions_of(WORDS, ["ab other"], ["ab c"])
    assert WordErrorRate(WORDS).parts(found) == Edits(1, 0, 0, 2)


def test_insertions_against_an_empty_reference_count():
    found = predictions_of(SPELLED, ["", "ab c"], ["c c", "ab c"])
    assert WordErrorRate(SPELLED).parts(found) == Edits(0, 2, 0, 2)
    assert WordErrorRate(SPELLED).value(found) == 1.0
    empty = {name: array[:1] for name, array in found.items()}
    assert math.isnan(WordErrorRate(SPELLED).value(empty))


def test_a_space_at_an_end_or_doubled_is_no_error():
    ids = np.array([[1, 2, 1, 1, 3, 1]], np.int32)
    found = {"reference": np.array([[2, 1, 3]], np.int32), "hypothesis": ids}
    for kind in (WordErrorRate, CharacterErrorRate, SentenceErrorRate):
        assert kind(SPELLED).value(found) == 0

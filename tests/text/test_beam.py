"""CTC decoding against an enumeration of all paths, and its language model and lexicon."""

import collections
import itertools
import math

import numpy as np
import pytest
from scipy.special import log_softmax

from gru_audio.settings import UserError
from gru_audio.text.beam import ALPHAS, BETAS, BeamSearch, align, tune
from gru_audio.text.ngram import count
from gru_audio.text.tokens import Tokens

SPELLED = Tokens((" ", "A", "B"))
WORDS = Tokens(("NO", "YES", "WELL"), are_words=True)


def outputs(seed, frames=5, tokens=SPELLED, scale=1.0):
    rng = np.random.default_rng(seed)
    return log_softmax(scale * rng.standard_normal((frames, tokens.outputs)), axis=1)


def collapsed(path):
    """The tokens of a path: repetitions merged, then blanks left out."""
    return tuple(token for token, _ in itertools.groupby(path) if token)


def enumerated(log_probs):
    """The log-probability of every sequence of tokens, from all paths."""
    frames, width = log_probs.shape
    probs = collections.Counter()
    for path in itertools.product(range(width), repeat=frames):
        probs[collapsed(path)] += math.exp(sum(log_probs[range(frames), path]))
    return {tokens: math.log(prob) for tokens, prob in probs.items()}


def greedy(log_probs):
    return collapsed(log_probs.argmax(axis=1).tolist())


@pytest.mark.parametrize("tokens", [SPELLED, WORDS], ids=["characters", "words"])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_sums_over_all_paths(tokens, seed):
    log_probs = outputs(seed, tokens=tokens)
    expected = enumerated(log_probs)
    found = BeamSearch(tokens, width=1000)(log_probs)
    assert {each.tokens: each.log_prob for each in found} == pytest.approx(expected)
    assert [each.score for each in found] == pytest.approx(sorted(expected.values(), reverse=True))
    assert found[0].text == tokens.decode(found[0].tokens)


def test_the_sum_over_paths_may_prefer_another_text_than_the_best_path():
    log_probs = np.log([[0.6, 1e-9, 0.4, 1e-9], [0.6, 1e-9, 0.4, 1e-9]])
    assert greedy(log_probs) == ()
    best = BeamSearch(SPELLED)(log_probs)[0]
    assert best.text == "A" and best.log_prob == pytest.approx(math.log(0.64), abs=1e-6)


def test_a_narrow_beam_keeps_likely_hypotheses_and_never_overstates_them():
    for seed in range(5):
        log_probs = outputs(seed, frames=6, scale=3.0)
        expected = enumerated(log_probs)
        found = BeamSearch(SPELLED, width=4)(log_probs)
        assert len(found) <= 4 and found[0].tokens == max(expected, key=expected.get)
        assert all(each.log_prob <= expected[each.tokens] + 1e-9 for each in found)


@pytest.mark.parametrize("tokens", [SPELLED, WORDS], ids=["characters", "words"])
def test_scores_with_a_language_model_are_those_of_the_formula(tokens):
    texts = ["AB A", "AB B"] if tokens is SPELLED else ["YES NO", "WELL NO NO"]
    ngram = count(texts, order=2)
    log_probs = outputs(1, tokens=tokens)
    expected = enumerated(log_probs)
    search = BeamSearch(tokens, width=1000, ngram=ngram, alpha=0.7, beta=0.4)
    found = search(log_probs)
    for each in found:
        words = each.text.split()
        bonus = 0.7 * ngram.sentence(words) + 0.4 * len(words)
        assert each.log_prob == pytest.approx(expected[each.tokens])
        assert each.score == pytest.approx(each.log_prob + bonus)
    assert len(found) == len(expected)


@pytest.mark.parametrize("width", [1, 3, 50])
def test_a_lexicon_allows_its_words_alone(width):
    lexicon = ("AB", "BA", "BAB", "\u2603")
    for seed in range(20):
        search = BeamSearch(SPELLED, width, count(["AB BA"]), lexicon=lexicon)
        for each in search(outputs(seed, frames=8)):
            assert set(each.text.split()) <= set(lexicon)
            assert SPELLED.encode(each.text) == list(each.tokens[: len(each.text)])
    for seed in range(5):
        found = BeamSearch(WORDS, width, lexicon=["NO", "YES_NO", "OTHER YEP", ""])(
            outputs(seed, tokens=WORDS)
        )
        assert all(set(each.text.split()) <= {"NO"} for each in found)
    with pytest.raises(UserError, match="no word that the tokens"):
        BeamSearch(SPELLED, lexicon=["\u2603"])(outputs(0))


def test_an_unfinished_word_is_cut():
    only_a = np.log([[1e-9, 1e-9, 1.0, 1e-9]])
    assert [each.text for each in BeamSearch(SPELLED, 1, lexicon=["AB"])(only_a)] == [""]


def test_no_frames_are_an_empty_text_and_invalid_arrays_are_refused():
    assert [each.text for each in BeamSearch(SPELLED)(np.zeros((0, 4)))] == [""]
    for invalid in (np.zeros((3, 5)), np.zeros(4), np.full((1, 4), np.nan)):
        with pytest.raises(ValueError, match=r"are not \(frames, 4\)"):
            BeamSearch(SPELLED)(invalid)


@pytest.mark.parametrize("seed", range(10))
def test_an_alignment_is_the_most_probable_path(seed):
    log_probs = outputs(seed, frames=6)
    ids = [2, 2, 3][: 1 + seed % 3]
    paths = [p for p in itertools.product(range(4), repeat=6) if collapsed(p) == tuple(ids)]
    best = max(paths, key=lambda path: sum(log_probs[range(6), path]))
    expected, place = [], 0
    for token, run in itertools.groupby(best):
        stop = place + len(list(run))
        expected += [[place, stop]] if token else []
        place = stop
    assert align(log_probs, ids).tolist() == expected


def test_alignments_at_the_limits():
    assert align(outputs(0, frames=3), [2, 2]).tolist() == [[0, 1], [2, 3]]
    assert align(outputs(0), []).shape == (0, 2)
    assert align(np.zeros((0, 4)), []).shape == (0, 2)
    for frames, ids in ((2, [2, 2]), (0, [1])):
        with pytest.raises(ValueError, match="have no path"):
            align(outputs(0, frames=frames), ids)


def test_tuning_chooses_the_weights_with_the_fewest_errors():
    """The sound prefers B, the language model knows A alone."""
    log_probs = [np.log([[0.1, 1e-9, 0.4, 0.5]])] * 3
    search = BeamSearch(SPELLED, ngram=count(["A"] * 10, order=1))
    tuned = tune(search, log_probs, ["A"] * 3)
    assert tuned(log_probs[0])[0].text == "A" and tuned.alpha == min(a for a in ALPHAS if a > 0)
    assert tune(search, log_probs, ["B"] * 3).alpha == ALPHAS[0]
    assert tuned.beta in BETAS

"""Decoding of CTC outputs on the host: prefix beam search, forced alignment and tuning.

The search is that of Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition
using Bi-Directional Recurrent DNNs" (arXiv 1408.2873). The probability of a prefix is the sum over
all of its paths. Paths that end in a blank and paths that end in a token are kept apart, because a
token after itself is a new token only if a blank lies between. The score of a hypothesis is

  log p(tokens | sound) + alpha log p(words) + beta (number of words).
"""

import dataclasses
import functools
import heapq
import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gru_audio.settings import UserError
from gru_audio.text import ngram as ngrams
from gru_audio.text.errors import edits, total
from gru_audio.text.ngram import Ngram
from gru_audio.text.tokens import BLANK, SPACE, Tokens

WIDTH = 16
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)  # the grid of `tune`
BETAS = (0.0, 0.5, 1.0, 2.0)

_LEAST = -8.0  # less probable tokens extend no prefix, except the most probable one
_NEVER = -math.inf

Trie = dict[int, "Trie"]  # the spellings of words; `BLANK` is a key where a word ends
Beam = dict["_Prefix", tuple[float, float]]  # log-probabilities: ends in a blank, in a token


class Hypothesis(NamedTuple):
    """A result of the search.

    Attributes:
      tokens: the token ids.
      text: the text.
      score: the score by which hypotheses are ranked.
      log_prob: log p(tokens | sound), a sum over the paths that the search kept.
    """

    tokens: tuple[int, ...]
    text: str
    score: float
    log_prob: float


@dataclass(eq=False, slots=True)
class _Prefix:
    """A sequence of tokens, with what the language model and the lexicon know of it.

    Attributes:
      parent, token: the sequence without its last token, and that token.
      context: the context of the language model after the complete words.
      bonus: the part of the score that comes from complete words.
      word: the spelling of an unfinished word.
      node: the place in the lexicon of the unfinished word.
      children: longer prefixes by token; None: refused by the lexicon.
    """

    parent: "_Prefix | None"
    token: int
    context: ngrams.Words
    bonus: float
    word: str
    node: Trie
    children: "dict[int, _Prefix | None]" = field(default_factory=dict)

    def tokens(self) -> tuple[int, ...]:
        ids = []
        prefix: _Prefix | None = self
        while prefix and prefix.token != BLANK:
            ids.append(prefix.token)
            prefix = prefix.parent
        return tuple(reversed(ids))


@dataclass(frozen=True)
class BeamSearch:
    """A CTC prefix beam search.

    Attributes:
      tokens: the tokens.
      width: the number of prefixes that are kept after each frame.
      ngram: a language model of words, if any.
      alpha: the weight of the language model.
      beta: the bonus for each word, if there is a language model.
      lexicon: the only words that hypotheses may have; None: all. Each is spelled as
        `Tokens.encode` does it; words with unknown characters are left out.
    """

    tokens: Tokens
    width: int = WIDTH
    ngram: Ngram | None = None
    alpha: float = 0.5
    beta: float = 1.0
    lexicon: Collection[str] | None = None

    def __call__(self, log_probs: np.ndarray) -> list[Hypothesis]:
        """Returns up to `width` hypotheses, the best one first.

        Args:
          log_probs: log-probabilities of the blank and the tokens, without padding, (T, outputs).

        Raises:
          ValueError: the array has another shape, or NaN.
        """
        _check(log_probs, self.tokens.outputs)
        start = self.ngram.start if self.ngram else ()
        beam = {_Prefix(None, BLANK, start, 0.0, "", self._trie): (0.0, _NEVER)}
        for row in log_probs.astype(np.float64):
            likely = np.flatnonzero(row[1:] >= min(_LEAST, row[1:].max(initial=_NEVER))) + 1
            beam = self._best(self._step(beam, row.tolist(), likely.tolist()))
        found = [self._finished(prefix, _add(*log_prob)) for prefix, log_prob in beam.items()]
        kept = [hypothesis for hypothesis in found if hypothesis] or [self._cut(beam)]
        return sorted(kept, key=lambda hypothesis: -hypothesis.score)

    def _step(self, beam: Beam, row: list[float], likely: list[int]) -> Beam:
        """Returns all prefixes after one more frame.

        Each has the log-probability of its paths that end in a blank, and of those that do not.
        """
        after: Beam = {}

        def add(prefix: _Prefix, blank: float, token: float) -> None:
            old = after.get(prefix)
            after[prefix] = (_add(old[0], blank), _add(old[1], token)) if old else (blank, token)

        for prefix, (blank, token) in beam.items():
            either = _add(blank, token)
            repeated = token + row[prefix.token] if prefix.token != BLANK else _NEVER
            add(prefix, either + row[BLANK], repeated)
            for i in likely:
                extended = (blank if i == prefix.token else either) + row[i]
                if extended > _NEVER and (longer := self._longer(prefix, i)):
                    add(longer, _NEVER, extended)
        return after

    def _best(self, beam: Beam) -> Beam:
        """Keeps the `width` prefixes with the best scores."""
        if len(beam) <= self.width:
            return beam
        return dict(heapq.nlargest(self.width, beam.items(), key=_score))

    def _longer(self, prefix: _Prefix, token: int) -> _Prefix | None:
        """Returns the prefix with one more token; None if the lexicon does not allow it."""
        if token not in prefix.children:
            prefix.children[token] = self._extended(prefix, token)
        return prefix.children[token]

    def _extended(self, prefix: _Prefix, token: int) -> _Prefix | None:
        name = self.tokens.names[token - 1]
        if name == SPACE:
            ended = self._ended(prefix)
            if ended is None or (self.lexicon is not None and not prefix.word):
                return None
            return _Prefix(prefix, token, *ended, "", self._trie)
        node = prefix.node if self.lexicon is None else prefix.node.get(token)
        if node is None:
            return None
        longer = _Prefix(prefix, token, prefix.context, prefix.bonus, prefix.word + name, node)
        if self.tokens.are_words:
            longer.context, longer.bonus = self._scored(longer)
            longer.word, longer.node = "", self._trie
        return longer

    def _ended(self, prefix: _Prefix) -> tuple[ngrams.Words, float] | None:
        """Returns context and bonus after the unfinished word; None if the lexicon lacks it."""
        if not prefix.word:
            return prefix.context, prefix.bonus
        if self.lexicon is not None and BLANK not in prefix.node:
            return None
        return self._scored(prefix)

    def _scored(self, prefix: _Prefix) -> tuple[ngrams.Words, float]:
        """Returns context and bonus after the word of a prefix."""
        if not self.ngram:
            return (), 0.0
        score = self.alpha * self.ngram.log_prob(prefix.context, prefix.word) + self.beta
        return self.ngram.after(prefix.context, prefix.word), prefix.bonus + score

    def _finished(self, prefix: _Prefix, log_prob: float) -> Hypothesis | None:
        """Returns the hypothesis whose last word ends here; None if the lexicon lacks the word."""
        ended = self._ended(prefix)
        if ended is None:
            return None
        context, score = ended
        if self.ngram:
            score += self.alpha * self.ngram.log_prob(context, ngrams.END)
        ids = prefix.tokens()
        return Hypothesis(ids, self.tokens.decode(ids), log_prob + score, log_prob)

    def _cut(self, beam: Beam) -> Hypothesis:
        """Returns the best prefix without its unfinished word, if no prefix ends with a word."""
        prefix, log_prob = max(beam.items(), key=_score)
        while prefix.word and prefix.parent:
            prefix = prefix.parent
        hypothesis = self._finished(prefix, _add(*log_prob))
        assert hypothesis
        return hypothesis

    @functools.cached_property
    def _trie(self) -> Trie:
        """The spellings of the lexicon."""
        root: Trie = {}
        for word in " ".join(self.lexicon or ()).split():
            spelling = self.tokens.encode(word)
            if self.tokens.unknown not in spelling:
                node = root
                for token in spelling:
                    node = node.setdefault(token, {})
                node[BLANK] = {}
        if self.lexicon is not None and not root:
            raise UserError("The lexicon has no word that the tokens of the model can spell.")
        return root


def align(log_probs: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Aligns tokens with frames by the most probable path (Viterbi).

    Args:
      log_probs: log-probabilities of the blank and the tokens, without padding, (T, outputs).
      ids: the tokens (U,).

    Returns:
      The first frame of each token and the frame after its last one, int (U, 2).

    Raises:
      ValueError: no path of T frames has these tokens.
    """
    labels = np.full(2 * len(ids) + 1, BLANK)
    labels[1::2] = ids  # blanks before, between and after the tokens
    places = np.arange(labels.size)
    skips = (labels != BLANK) & (labels != np.roll(labels, 2)) & (places >= 2)
    score = np.where(places == 0, 0.0, _NEVER)
    steps = np.zeros((len(log_probs), labels.size), np.int8)  # places that the path advances
    for t, row in enumerate(log_probs.astype(np.float64)):
        by_one = np.where(places >= 1, np.roll(score, 1), _NEVER)
        by_two = np.where(skips, np.roll(score, 2), _NEVER)
        ways = np.stack([score, by_one, by_two])
        steps[t] = ways.argmax(axis=0)
        score = ways.max(axis=0) + row[labels]
    ends = score[-2:]  # the last token, and the blank after it
    place = labels.size - ends.size + int(ends.argmax())
    if score[place] == _NEVER:
        raise ValueError(f"{len(log_probs)} frames have no path with these {len(ids)} tokens")
    path = np.empty(len(log_probs), np.int64)
    for t in reversed(range(len(log_probs))):
        path[t] = place
        place -= steps[t, place]
    own = places[1::2]
    return np.stack([np.searchsorted(path, own, side) for side in ("left", "right")], axis=1)


def tune(
    search: BeamSearch, log_probs: Sequence[np.ndarray], references: Sequence[str]
) -> BeamSearch:
    """Chooses the weights of the language model on validation examples.

    Args:
      search: the search; its own weights are ignored.
      log_probs: log-probabilities of each example, without padding, (T, outputs).
      references: transcript of each example.

    Returns:
      The search with those weights of `ALPHAS` and `BETAS` that make the fewest errors of words;
      with equal errors the smaller ones.
    """

    def errors(alpha: float, beta: float) -> int:
        tried = dataclasses.replace(search, alpha=alpha, beta=beta)
        found = (tried(each)[0].text.split() for each in log_probs)
        pairs = zip(references, found, strict=True)
        return total(edits(reference.split(), words) for reference, words in pairs).errors

    grid = itertools.product(ALPHAS, BETAS)
    alpha, beta = min(grid, key=lambda weights: errors(*weights))
    return dataclasses.replace(search, alpha=alpha, beta=beta)


def _score(item: tuple[_Prefix, tuple[float, float]]) -> float:
    """Returns the score of a prefix of the beam; an unfinished word adds nothing yet."""
    prefix, log_prob = item
    return _add(*log_prob) + prefix.bonus


def _check(log_probs: np.ndarray, outputs: int) -> None:
    if log_probs.ndim != 2 or log_probs.shape[1] != outputs or np.isnan(log_probs).any():
        raise ValueError(f"log-probabilities {log_probs.shape} are not (frames, {outputs})")


def _add(a: float, b: float) -> float:
    """Returns log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))

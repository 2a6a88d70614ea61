"""Transcribes the outputs of a CTC model, greedily or by a beam search, with times of words."""

import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from gru_audio.data.fields import TextField
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.paths import local_path
from gru_audio.settings import UserError
from gru_audio.tasks.ctc import Ctc
from gru_audio.tasks.task import FrameTimes
from gru_audio.text import ngram as ngrams
from gru_audio.text.beam import BeamSearch, align
from gru_audio.text.ngram import Ngram
from gru_audio.text.tokens import BLANK, SPACE, Tokens

_BATCH = 32  # clips per model call
_SHOWN = 20  # characters in a message


class Word(NamedTuple):
    """A word with its time in seconds.

    A CTC model outputs a token in few frames, often late in its sound. A word lasts from the first
    frame of its first token to the last frame of its last token.
    """

    text: str
    start: float
    end: float


class Transcript(NamedTuple):
    """A text with its words; `str` gives the text."""

    text: str
    words: tuple[Word, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Transcriber:
    """A trained CTC model with its decoding.

    Attributes:
      trained: the model.
      search: the beam search; None: greedy decoding.
    """

    trained: TrainedModel
    search: BeamSearch | None = None

    @classmethod
    def of(
        cls,
        trained: TrainedModel,
        beam: int | None = None,
        lm: str | None = None,
        lm_weight: float = 0.5,
        word_bonus: float = 1.0,
        lexicon: bool = False,
    ) -> Self:
        """Returns the transcriber with these options, which are flags of `predict`.

        Args:
          trained: the model.
          beam: width of a beam search; None: greedy decoding.
          lm: an ARPA file with a language model of words.
          lm_weight, word_bonus: see `BeamSearch`.
          lexicon: whether texts may have the words of the training texts only.

        Raises:
          UserError: the options do not go together, or the language model cannot be used.
        """
        if beam is None:
            if lm or lexicon:
                raise UserError("--lm and --lexicon need a beam search: add --beam 16 (beam=16).")
            return cls(trained)
        if beam < 1:
            raise UserError(f"beam={beam} must be at least 1.")
        ngram = read_language_model(trained, lm) if lm else None
        search = beam_search(trained, beam, ngram, lexicon=lexicon)
        return cls(trained, replace(search, alpha=lm_weight, beta=word_bonus))

    @functools.cached_property
    def tokens(self) -> Tokens:
        """The tokens of the model."""
        return tokens_of(self.trained)

    @functools.cached_property
    def times(self) -> FrameTimes:
        """The times of the output frames."""
        return self.trained.program().frame_times

    def log_probs(self, clips: Sequence[np.ndarray], batch: int = _BATCH) -> list[np.ndarray]:
        """Returns log-probabilities of the blank and the tokens, (frames, outputs) for each clip.

        Args:
          clips: N signals of the kind that the model was trained on.
          batch: clips per model call; each value is compiled once.
        """
        return [log_softmax(logits) for logits in self.trained.outputs(clips, batch)]

    def ids(self, log_probs: np.ndarray) -> tuple[int, ...]:
        """Decodes log-probabilities (frames, outputs) to token ids."""
        if self.search:
            return self.search(log_probs)[0].tokens
        best = log_probs.argmax(axis=1).tolist()
        return tuple(token for token, _ in itertools.groupby(best) if token != BLANK)

    def transcript(self, log_probs: np.ndarray, first: int = 0) -> Transcript:
        """Decodes log-probabilities to a text with times.

        Args:
          log_probs: (frames, outputs).
          first: number of output frames before them.
        """
        ids = self.ids(log_probs)
        frames = (align(log_probs, ids) + first).tolist() if ids else []
        words = self._words(zip(ids, frames, strict=True))
        return Transcript(self.tokens.decode(ids), tuple(words))

    def _words(self, placed: Iterable[tuple[int, Sequence[int]]]) -> Iterator[Word]:
        """Yields the words of tokens, each of which has its first frame and the frame after it."""
        tokens, step = self.tokens, self.times.step
        begin = self.times.first - step / 2  # of the first frame

        def is_space(token: tuple[int, Sequence[int]]) -> bool:
            return tokens.names[token[0] - 1] == SPACE

        words: Iterable[list[tuple[int, Sequence[int]]]] = (
            ([token] for token in placed)
            if tokens.are_words
            else (list(group) for space, group in itertools.groupby(placed, is_space) if not space)
        )
        for word in words:
            start, end = (begin + step * frame for frame in (word[0][1][0], word[-1][1][1]))
            yield Word(tokens.decode(token for token, _ in word), max(0.0, start), end)


def tokens_of(trained: TrainedModel) -> Tokens:
    """Returns the tokens of a CTC model."""
    task = trained.program().task
    assert isinstance(task, Ctc)
    return task.token_set


def beam_search(
    trained: TrainedModel, width: int, ngram: Ngram | None = None, *, lexicon: bool = False
) -> BeamSearch:
    """Makes a beam search for a model.

    Args:
      trained: a CTC model.
      width: the number of prefixes that are kept after each frame.
      ngram: a language model of words, if any.
      lexicon: whether texts may have the words of the training texts only.
    """
    field = trained.field
    assert isinstance(field, TextField)
    if lexicon and not field.words:
        raise UserError(
            f"{trained.about['run']} was trained on a data set that an older version prepared: it "
            "does not know the words of the training texts, which --lexicon needs."
        )
    return BeamSearch(tokens_of(trained), width, ngram, lexicon=field.words if lexicon else None)


def read_language_model(trained: TrainedModel, path: str) -> Ngram:
    """Reads an ARPA file. Warns of words that the model cannot output.

    Raises:
      UserError: the file cannot be read, or has no word that the model can output.
    """
    ngram, tokens = ngrams.read_arpa(local_path(path)), tokens_of(trained)
    odd = [word for word in ngram.words if tokens.missing([word])]
    if odd:
        units = sorted(tokens.missing(odd))
        what = f"{len(odd)} of the {len(ngram.words)} words of {path} have characters that "
        why = f"{what}{trained.about['run']} cannot output: {' '.join(units[:_SHOWN])}"
        if len(odd) == len(ngram.words):
            raise UserError(f"{why}. Its texts look like this: {''.join(tokens.names[:_SHOWN])}.")
        print(f"warning: {why}", file=sys.stderr)
    return ngram


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities of logits (..., outputs)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

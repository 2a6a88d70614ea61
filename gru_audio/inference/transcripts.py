"""Predicts text: a line for each clip, and lines with times for recordings and live sound.

A recording is transcribed in windows of twice the advance from one to the next. Each window gives
the log-probabilities of its middle half, so that every frame has context on both sides. The frames
of all windows are one sequence, which is cut at pauses. Only some windows and one sentence are in
memory.
"""

import contextlib
import functools
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.inference.predictor import Clip, Predictor, grouped
from gru_audio.inference.printer import clock
from gru_audio.inference.stream import Stream
from gru_audio.inference.transcriber import Transcriber, Transcript, log_softmax
from gru_audio.settings import UserError
from gru_audio.text.tokens import BLANK, SPACE

_PAUSE = 0.5  # seconds without a token, between two sentences
_LONGEST = 4  # longest sentence, in multiples of the longest clip
_BATCH = 8  # windows of a recording per model call
_PARTIAL = 0.5  # seconds between two partial transcripts
_CLEAR = "\r\x1b[K"  # clears the line of a terminal


@dataclass(frozen=True)
class Transcripts(Predictor):
    """Prints what is said.

    Attributes:
      beam: width of a beam search; None: greedy decoding.
      lm: an ARPA file with a language model of words.
      lm_weight, word_bonus: see `BeamSearch`.
      lexicon: whether texts may have the words of the training texts only.
    """

    beam: int | None
    lm: str | None
    lm_weight: float
    word_bonus: float
    lexicon: bool

    def __post_init__(self) -> None:
        assert self._transcriber  # reads the language model

    @functools.cached_property
    def _transcriber(self) -> Transcriber:
        options = self.beam, self.lm, self.lm_weight, self.word_bonus, self.lexicon
        return Transcriber.of(self.trained, *options)

    def clips(self, clips: Iterable[Clip]) -> None:
        """Prints the name and the text of each clip, or a line of JSON with times of words."""
        for names, sounds in grouped(clips):
            for name, log_probs in zip(names, self._transcriber.log_probs(sounds), strict=True):
                found = self._transcriber.transcript(log_probs)
                print(_json(found, {"file": name}) if self.as_json else f"{name}\t{found.text}")

    def recording(self, name: str, blocks: Iterable[np.ndarray]) -> None:
        """Prints a line for each sentence, as soon as it has ended."""
        if not self.as_json:
            print(f"{name}\n{'start':>11}{'end':>12}  text")
        for first, log_probs in self._sentences(self._frames(blocks)):
            found = self._transcriber.transcript(log_probs, first)
            self._print(found, {"file": name})

    def live(self, blocks: Iterable[np.ndarray]) -> None:
        """Prints sentences; a terminal, or JSON, also shows what the current one is so far.

        Each sentence is a stream of its own, which begins in the pause before it.

        Raises:
          UserError: the model cannot run in a stream.
        """
        try:
            stream = Stream.of(self.trained)
        except UserError as error:
            run = self.trained.about["run"]
            raise UserError(f"{run} cannot transcribe live sound: {error}") from error
        print(f"Latency: {stream.latency}", file=sys.stderr)
        found, is_partial, heard = Transcript("", ()), False, 0
        with contextlib.suppress(KeyboardInterrupt):
            for found, is_partial, samples in self._heard(stream, blocks):
                heard = samples
                if not is_partial or self.as_json:
                    self._print(found, {"partial": True} if is_partial else {})
                elif sys.stdout.isatty():
                    print(f"{_CLEAR}{found.text}", end="", flush=True)
        if is_partial:
            self._print(found, {})
        print(f"{clock(heard / self.rate)} heard", file=sys.stderr)

    def _print(self, found: Transcript, more: dict[str, Any]) -> None:
        """Prints a sentence with its times; nothing if it has no word."""
        if not found.words:
            return
        start, end = found.words[0].start, found.words[-1].end
        if self.as_json:
            print(_json(found, {**more, **_times(start, end)}), flush=True)
            return
        clear = _CLEAR if sys.stdout.isatty() else ""
        print(f"{clear}{clock(start):>11}{clock(end):>12}  {found.text}", flush=True)

    def _frames(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the log-probabilities of a recording, (frames, outputs) each, in order."""
        advance = max(2, self.limit // self._step // 2)  # output frames
        begin, end = 0, advance + advance // 2  # what a window contributes
        windows = _windows(blocks, 2 * advance * self._step, advance * self._step)
        while group := list(itertools.islice(windows, _BATCH)):
            rows = self._transcriber.log_probs([sound for sound, _ in group], _BATCH)
            for log_probs, (_, is_last) in zip(rows, group, strict=True):
                yield log_probs[begin:] if is_last else log_probs[begin:end]
                begin = advance // 2

    def _sentences(self, parts: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the log-probabilities of each sentence, and the number of frames before it."""
        first, waiting = 0, np.zeros((0, self._transcriber.tokens.outputs), np.float32)
        for part in parts:
            waiting = np.concatenate([waiting, part])
            while stop := self._end(waiting):
                yield first, waiting[:stop]
                first, waiting = first + stop, waiting[stop:]
        yield first, waiting

    def _heard(
        self, stream: Stream, blocks: Iterable[np.ndarray]
    ) -> Iterator[tuple[Transcript, bool, int]]:
        """Yields sentences of live sound, whether each is partial, and the samples so far."""
        transcript = self._transcriber.transcript
        first, heard, waiting = 0, 0, np.zeros(0, np.int16)
        log_probs = np.zeros((0, self._transcriber.tokens.outputs), np.float32)
        piece = round(_PARTIAL * self.rate)
        for sound, _ in _windows(blocks, piece, piece):
            heard, waiting = heard + len(sound), np.concatenate([waiting, sound])
            (new,) = stream.push(sound)
            log_probs = np.concatenate([log_probs, log_softmax(new.values)])
            while stop := self._end(log_probs):
                yield transcript(log_probs[:stop], first), False, heard
                first, waiting = first + stop, waiting[stop * self._step :]
                stream.restart()
                (new,) = stream.push(waiting)
                log_probs = log_softmax(new.values)
            yield transcript(log_probs, first), True, heard
        (new,) = stream.close()
        yield transcript(np.concatenate([log_probs, log_softmax(new.values)]), first), True, heard

    def _end(self, log_probs: np.ndarray) -> int:
        """Returns the number of frames of the first sentence; 0 if it may not have ended.

        It ends in the middle of the first pause. Too long a sentence ends in its longest silence.
        """
        runs = _runs(np.isin(log_probs.argmax(axis=1), self._silent))
        lengths = runs[:, 1] - runs[:, 0]
        pauses = np.flatnonzero(lengths * self._step >= _PAUSE * self.rate)
        if pauses.size:
            return int(runs[pauses[0]].sum()) // 2
        if len(log_probs) * self._step <= _LONGEST * self.limit:
            return 0
        return max(1, int(runs[lengths.argmax()].sum()) // 2) if runs.size else len(log_probs)

    @functools.cached_property
    def _step(self) -> int:
        """Samples from one output frame to the next."""
        program = self.trained.program()
        return program.frontend.hop * program.model.positions.step

    @functools.cached_property
    def _silent(self) -> list[int]:
        """The outputs of frames in which nothing is said."""
        space = self._transcriber.tokens.ids.get(SPACE)
        return [BLANK] if space is None else [BLANK, space]


def _windows(
    blocks: Iterable[np.ndarray], size: int, advance: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Cuts sound into windows that begin at multiples of `advance` samples.

    Yields:
      Samples int16 (size,), and whether they are the last, which are fewer.
    """
    buffer = np.zeros(0, np.int16)
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) >= size:
            yield buffer[:size], False
            buffer = buffer[advance:]
    if len(buffer):
        yield buffer, True


def _runs(mask: np.ndarray) -> np.ndarray:
    """Returns the begins and ends of the stretches where a mask (n,) is true, int (runs, 2)."""
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)


def _times(start: float, end: float) -> dict[str, float]:
    """Returns times for JSON, in seconds with milliseconds."""
    return {"start": round(start, 3), "end": round(end, 3)}


def _json(found: Transcript, more: dict[str, Any]) -> str:
    """Returns a transcript as a line of JSON."""
    words = [{"word": text, **_times(*times)} for text, *times in found.words]
    return json.dumps({**more, "text": found.text, "words": words})

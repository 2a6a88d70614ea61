"""The Python interface to a trained model: files or arrays in, predictions out.

`gru_audio.load` returns a `Model`. The commands use the same classes: `Labeller`, `Detector` and
`Transcriber`.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from gru_audio.data.fields import Event
from gru_audio.inference.codes import Code, encode
from gru_audio.inference.detector import Detector
from gru_audio.inference.generator import Generator
from gru_audio.inference.labeller import Labeller, activated
from gru_audio.inference.sounds import Sound, is_one, read_sounds
from gru_audio.inference.stream import CHUNK_MS, Stream
from gru_audio.inference.trained_model import TrainedModel
from gru_audio.inference.transcriber import Transcriber, Transcript
from gru_audio.nn.size import count_parameters
from gru_audio.settings import UserError
from gru_audio.tasks.scale import Interval
from gru_audio.training.step import Program

T = TypeVar("T")
Sounds = list[Any] | tuple[Any, ...] | Iterator[Sound]  # several

_BATCH = 32  # sounds per model call
_METHODS = {"labels": "predict", "events": "events", "text": "transcribe"}  # by `Task.predicts`


@dataclass(frozen=True, eq=False, repr=False)
class Gates:
    """The gates and states of the recurrent layers of a model over one sound.

    Attributes:
      times: the centre of each frame in seconds, float32 (frames,).
      layers: name of the layer ("encoder/forward_0") -> name of the gate or state -> float32
        (frames, units). Gates are "update", "reset", "forget", ..., and "candidate"; "h" is the
        output of the layer, and "c" the memory of an LSTM; see `gru_audio.nn.gates`.
    """

    times: np.ndarray
    layers: Mapping[str, Mapping[str, np.ndarray]]

    def __getitem__(self, layer: str) -> Mapping[str, np.ndarray]:
        return self.layers[layer]

    def __repr__(self) -> str:
        layers = (f"{layer}: {', '.join(gates)}" for layer, gates in self.layers.items())
        return f"<Gates over {len(self.times)} frames: {'; '.join(layers)}>"


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained model.

    Every method takes one sound and returns one result, or takes several sounds (a list, a tuple or
    an iterator) and returns a list of results in the same order. A sound is

    - a file name: WAV, AIFF, AU, CAF, FLAC, Ogg or MP3, of any rate and number of channels;
    - or an array (samples,) of int16, or of floats in [-1, 1], of NumPy or JAX, with its `rate` in
      Hz. It is resampled to the model's rate as files are.

    Models of frames that are no sound take arrays (frames, features) without a rate.

    Sounds are computed in batches of similar length. Results depend neither on the batch nor on the
    order. The first sounds of a new length take longer, because a program is compiled.

    All methods raise `UserError`, a `ValueError`, if a sound cannot be used (no such file, NaN,
    empty, wrong shape or type, no rate, shorter than one frame), or if the model's task has no such
    results.

    Attributes:
      trained: the weights, the config and the label field.
      measure: returns the test metrics by name, with intervals.
    """

    trained: TrainedModel
    measure: Callable[[], Mapping[str, Interval]] = dict

    @property
    def run(self) -> str:
        """The name of the run that trained the model."""
        return self.trained.about["run"]

    @property
    def rate(self) -> int:
        """The model's sample rate in Hz; for a model of frames, frames per second."""
        return self.trained.signal.rate

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the outputs, in the order of `probabilities`; () if they have none."""
        return self._program.task.names_of_outputs

    @functools.cached_property
    def metrics(self) -> Mapping[str, Interval]:
        """The metrics of the test split by name, each with `value`, `low` and `high`.

        They form a 95 % interval over the test examples, or over their speakers or recordings. It
        does not contain the variation between seeds. Without predictions `is_interval` is False. An
        exported model has no metrics.
        """
        return self.measure()

    def __repr__(self) -> str:
        task, parameters = self.trained.config.task.name, self.trained.weights.params
        count = count_parameters(self._program.model, parameters)
        outputs = f" of {len(self.labels)} labels" if self.labels else ""
        kind = "sound" if self.trained.signal.is_sound else "frames"
        reads = f"from {kind} at {self.rate} Hz, {count:,} parameters"
        return f"<Model {self.run}: {task}{outputs} {reads}>"

    def predict(self, sounds: Sound | Sounds, rate: float | None = None) -> Any:
        """Predicts what the model was trained for.

        Args:
          sounds: one or several; see `Model`.
          rate: the sample rate of arrays, in Hz.

        Returns:
          For each sound the labels with their probabilities (a `Prediction`), or the result of
          `events` or of `transcribe`.
        """
        kind = self._program.task.predicts
        if kind != "labels":
            self._check(kind in _METHODS, "labels, text or events")
            return getattr(self, _METHODS[kind])(sounds, rate)
        labeller = Labeller(self.trained)
        return self._apply(
            lambda clips, batch: map(labeller.prediction, labeller.probabilities(clips, batch)),
            sounds,
            rate,
        )

    @overload
    def probabilities(self, sounds: Sound, rate: float | None = None) -> np.ndarray: ...
    @overload
    def probabilities(self, sounds: Sounds, rate: float | None = None) -> list[np.ndarray]: ...
    def probabilities(self, sounds: Sound | Sounds, rate: float | None = None) -> Any:
        """Computes the probabilities of all labels.

        Args:
          sounds: one or several; see `Model`.
          rate: the sample rate of arrays, in Hz.

        Returns:
          For each sound float32 (labels,). If the task is per frame (events, text) the shape is
          (frames, labels); `times` gives the times of the frames. Labels are in the order of
          `labels`.
        """
        task = self._program.task
        self._check(task.activation is not None, "probabilities")
        if not task.per_frame:
            return self._apply(Labeller(self.trained).probabilities, sounds, rate)
        function = functools.partial(activated, task)
        return self._apply(
            lambda clips, batch: map(function, self.trained.outputs(clips, batch)), sounds, rate
        )

    def times(self, frames: int) -> np.ndarray:
        """Returns the centres of the first frames in seconds, float32 (frames,)."""
        return np.asarray(self._program.frame_times.centres(frames))

    @overload
    def events(
        self, sounds: Sound, rate: float | None = None, *, threshold: float | None = None
    ) -> list[Event]: ...
    @overload
    def events(
        self, sounds: Sounds, rate: float | None = None, *, threshold: float | None = None
    ) -> list[list[Event]]: ...
    def events(
        self,
        sounds: Sound | Sounds,
        rate: float | None = None,
        *,
        threshold: float | None = None,
    ) -> Any:
        """Detects sound events.

        Args:
          sounds: one or several; see `Model`.
          rate: the sample rate of arrays, in Hz.
          threshold: the threshold of all classes, in [0, 1]; None: those chosen on the validation
            split.

        Returns:
          For each sound a list of `Event(onset, offset, label)` in seconds, in the order of the
          onsets.
        """
        self._check(self._program.task.predicts == "events", "events")
        detector = Detector(self.trained, threshold)
        return self._apply(
            lambda clips, batch: map(detector.events, detector.frames(clips, batch)), sounds, rate
        )

    @overload
    def transcribe(
        self, sounds: Sound, rate: float | None = None, **options: Any
    ) -> Transcript: ...
    @overload
    def transcribe(
        self, sounds: Sounds, rate: float | None = None, **options: Any
    ) -> list[Transcript]: ...
    def transcribe(self, sounds: Sound | Sounds, rate: float | None = None, **options: Any) -> Any:
        """Transcribes speech.

        Args:
          sounds: one or several; see `Model`.
          rate: the sample rate of arrays, in Hz.
          **options: those of `Transcriber.of`. `beam` is the width of a beam search; without it,
            decoding is greedy. `lm` is an ARPA file with a language model of words, with the
            weights `lm_weight` and `word_bonus`. `lexicon=True` allows only words of the training
            texts.

        Returns:
          For each sound a `Transcript` with its `text`, and its `words` with their times in
          seconds.
        """
        self._check(self._program.task.predicts == "text", "text")
        transcriber = Transcriber.of(self.trained, **options)
        return self._apply(
            lambda clips, batch: map(transcriber.transcript, transcriber.log_probs(clips, batch)),
            sounds,
            rate,
        )

    @overload
    def encode(self, sounds: Sound, rate: float | None = None) -> Code: ...
    @overload
    def encode(self, sounds: Sounds, rate: float | None = None) -> list[Code]: ...
    def encode(self, sounds: Sound | Sounds, rate: float | None = None) -> Any:
        """Encodes sounds with an autoencoder.

        Args:
          sounds: one or several; see `Model`. They are not cropped.
          rate: the sample rate of arrays, in Hz.

        Returns:
          For each sound a `Code`: the `latent` vector (latent,), the `frames` that were read and
          those that are `decoded` from the vector, (frames, features) each.

        Raises:
          UserError: the model has no latent vector.
        """
        return self._apply(functools.partial(encode, self.trained), sounds, rate)

    @overload
    def gates(self, sounds: Sound, rate: float | None = None) -> Gates: ...
    @overload
    def gates(self, sounds: Sounds, rate: float | None = None) -> list[Gates]: ...
    def gates(self, sounds: Sound | Sounds, rate: float | None = None) -> Any:
        """Computes the gates and states of the recurrent layers over time.

        Args:
          sounds: one or several; see `Model`. They are not cropped.
          rate: the sample rate of arrays, in Hz.

        Raises:
          UserError: the model has no recurrent layers.
        """

        def gates(clips: Sequence[np.ndarray], batch: int) -> Iterable[Gates]:
            for layers in self.trained.gates(clips, batch):
                first = next(iter(next(iter(layers.values())).values()))
                yield Gates(self.times(len(first)), layers)

        return self._apply(gates, sounds, rate)

    def stream(self, chunk_ms: float = CHUNK_MS, streams: int = 1) -> Stream:
        """Begins streams of sound whose results are known while it arrives.

        Args:
          chunk_ms: the model computes pieces of this length, in ms.
          streams: number of streams that one call continues.

        Raises:
          UserError: the model needs the whole sound; the message names the setting to change.
        """
        return Stream.of(self.trained, chunk_ms, streams)

    def generate(
        self,
        seconds: float,
        count: int = 1,
        *,
        condition: str | Sequence[str] | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        prefix: Sound | None = None,
        rate: float | None = None,
    ) -> np.ndarray:
        """Generates sounds, sample by sample.

        Sound i depends on `seed` and i, not on `count`.

        Args:
          seconds: length of the new sound.
          count: number of sounds.
          condition: the class of all sounds, or one for each sound, of the field that the model was
            trained with (`config.data.target`); None for a model without.
          temperature: below 1, probable samples become more probable.
          seed: of the random numbers.
          prefix: a sound that all sounds continue; see `Model`.
          rate: the sample rate of the prefix in Hz, if it is an array.

        Returns:
          int16 (count, samples) at the model's `rate`: the prefix, then the new sound.
        """
        generator = Generator.of(self.trained)
        before = None
        if prefix is not None:
            (before,) = read_sounds(prefix, rate, self.trained.signal, 1)
        return generator.sounds(
            generator.samples(seconds),
            count,
            conditions=condition,
            temperature=temperature,
            seed=seed,
            prefix=before,
        )

    @functools.cached_property
    def _program(self) -> Program:
        return self.trained.program()

    def _check(self, able: bool, what: str) -> None:
        """Raises an error if the model has no results of a kind."""
        if able:
            return
        task, name = self._program.task, self.trained.config.task.name
        hint = "`python -m gru_audio.evaluate` scores it."
        if task.predicts in _METHODS:
            hint = f"It predicts {task.predicts}: call {_METHODS[task.predicts]}()."
        raise UserError(f"{self.run} predicts no {what}: config.task.name={name}. {hint}")

    def _apply(
        self,
        function: Callable[[Sequence[np.ndarray], int], Iterable[T]],
        sounds: Sound | Sounds,
        rate: float | None,
    ) -> T | list[T]:
        """Applies a function of signals and their number per model call to sounds.

        A signal that is longer than any clip of the data set has a call of its own.
        """
        shortest = self._program.frontend.samples(1)
        clips = read_sounds(sounds, rate, self.trained.signal, shortest)
        long = {i for i, clip in enumerate(clips) if len(clip) > self.trained.clip_limit}
        short = [i for i in range(len(clips)) if i not in long]
        results: dict[int, T] = {}
        for ids in filter(None, [short, *([i] for i in long)]):
            batch = _BATCH if len(ids) > 1 else 1
            found = function([clips[i] for i in ids], batch)
            results |= zip(ids, found, strict=True)
        return results[0] if is_one(sounds) else [results[i] for i in range(len(clips))]

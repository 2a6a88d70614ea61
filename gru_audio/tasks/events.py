"""Detection of sound events: an output for each class and frame, decoded to onsets and offsets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gru_audio.data.fields import EventsField, Field
from gru_audio.events import metrics
from gru_audio.events.decode import Decoder, Events
from gru_audio.events.metrics import GREEDY, OPTIMAL, Tolerance
from gru_audio.settings import setting
from gru_audio.tasks.event_metrics import (
    EVENT,
    F1,
    SEGMENT,
    AnnotatedSyllableErrorRate,
    Counted,
    FrameError,
    PolyphonicScore,
    SyllableErrorRate,
    choose,
    counted,
    parameters_of,
)
from gru_audio.tasks.metrics import LOSS, Metric, Predictions
from gru_audio.tasks.task import (
    CLASS_WEIGHTS,
    FrameTimes,
    InputsAndTargets,
    Row,
    Stored,
    Task,
    balanced,
    log_odds,
    over_frames,
)

_EPSILON = 1e-9  # added to class frequencies, because a class may be absent from training
_ROUNDING = 2e-3  # frames; times and centres are float32
_UNIT = FrameTimes(0.5, 1.0)  # until `timed` is called


@dataclass(frozen=True)
class SoundEvents(Task):
    """Detection of the events of the classes `output_names`.

    A class is active in a frame if the centre of the frame is in one of its events: at the onset or
    later, and before the offset. If classes exclude each other, the output of a frame is the
    background or one class; where events overlap, the target is the first of their classes.

    Whole recordings are evaluated. `config.data.crop_seconds` crops those of training.
    """

    output_names: tuple[str, ...]
    overlap: bool = setting(
        False, doc="Whether events of different classes may overlap, or exclude each other."
    )
    collar_ms: float = setting(
        200.0,
        above=0,
        high=1e6,
        unit="ms",
        doc="The largest difference of onsets, and of offsets, of events that match. For offsets, "
        "half the duration of the event is allowed, too.",
    )
    matching: str = setting(
        GREEDY,
        choices=(GREEDY, OPTIMAL),
        doc='"greedy": each event takes the first free one that matches; "optimal": most pairs.',
    )
    segment_ms: float = setting(
        1000.0, above=0, high=1e6, unit="ms", doc="Duration of a segment in segment-based metrics."
    )
    class_weight: str = setting(
        "none",
        choices=CLASS_WEIGHTS,
        doc='"balanced": the frames of each class, and of the background, count as much in the '
        "loss as those of any other; if events may overlap, the frames in which a class is active "
        "count as much as the others.",
    )
    times: FrameTimes = _UNIT

    needs: ClassVar[type[Field] | None] = EventsField
    several: ClassVar[bool] = True
    per_frame: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    predicts: ClassVar[str] = "events"
    mixable: ClassVar[bool] = False
    output_words: ClassVar[tuple[str, str]] = ("class", "classes")
    trivial: ClassVar[str] = "class frequencies"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of the decoded events, and the loss."""
        collar = self.collar_ms / 1000
        rules = Tolerance(collar, collar, matching=self.matching), self.segment_ms / 1000
        of_segments, of_events = counted(SEGMENT, *rules), counted(EVENT, *rules)
        if self.overlap:
            return (*of_segments, *of_events, PolyphonicScore(), LOSS)
        of_frames = FrameError(), SyllableErrorRate(), AnnotatedSyllableErrorRate()
        return (*of_frames, *of_events, *of_segments, LOSS)

    @property
    def outputs(self) -> int:
        """The number of classes, and the background if they exclude each other."""
        return len(self.output_names) + (not self.overlap)

    @property
    def names_of_outputs(self) -> tuple[str, ...]:
        """The classes, and before them the background if they exclude each other."""
        return self.output_names if self.overlap else ("<background>", *self.output_names)

    @property
    def activation(self) -> str:
        """What makes probabilities of the outputs."""
        return "sigmoid" if self.overlap else "softmax"

    def timed(self, times: FrameTimes) -> Self:
        """Returns the task for a model whose output frames have these times."""
        return replace(self, times=times)

    def class_weights(self, labels: Any, frames: np.ndarray) -> np.ndarray | None:
        """Returns the weights of the outputs of frames; None without class weights.

        They are float32 (1 + classes,), with the background. If events may overlap, they are the
        weights of each class's absence and presence, (classes, 2).
        """
        if self.class_weight == "none":
            return None
        classes, begin = len(self.output_names), self.times.first - self.times.step / 2
        counts = np.zeros((classes, 2) if self.overlap else 1 + classes, np.int64)
        for times, numbers, count in zip(labels["times"], labels["classes"], frames, strict=True):
            events = Events(times[numbers >= 0].astype(np.float64), numbers[numbers >= 0])
            active = metrics.active(events, classes, int(count), self.times.step, begin)
            if self.overlap:
                counts += np.stack([(~active).sum(0), active.sum(0)], axis=-1)
            else:
                counts += np.bincount(_exclusive(active), minlength=1 + classes)
        return balanced(counts)

    def weighted(self, soft: Any, labels: Any, weights: jax.Array) -> Any:
        """Returns the events of a batch, and for each example the result of `class_weights`."""
        shape = len(soft["counts"]), *weights.shape
        return soft | {"weights": jnp.broadcast_to(weights, shape)}

    def moved(self, labels: Any, speed: jax.Array, shift: jax.Array) -> Any:
        """Returns the events at their times after a change of speed and a shift."""
        times = labels["times"] / speed[:, None, None] + shift[:, None, None]
        return labels | {"times": times}

    def inputs_and_targets(
        self, features: jax.Array, lengths: jax.Array, labels: Any
    ) -> InputsAndTargets:
        """Returns the features as inputs, and as targets what is active in each frame.

        Targets are bool (B, T, classes). If classes exclude each other, they are int32 (B, T); 0 is
        the background. With class weights, targets are a pair of these and their weights, float32
        of the same shape. Predictions contain the events as reference.
        """
        active = self.active(labels, features.shape[1])
        targets = active if self.overlap else _exclusive(active)
        if "weights" not in labels:
            return InputsAndTargets(features, lengths, targets, labels)
        weights = labels["weights"]
        if self.overlap:
            weights = jnp.where(targets, weights[:, None, :, 1], weights[:, None, :, 0])
        else:
            weights = jnp.take_along_axis(weights, targets, axis=1)
        return InputsAndTargets(features, lengths, (targets, weights))

    def active(self, labels: Any, count: int) -> jax.Array:
        """Returns whether each class is active in each of `count` frames, bool (B, count, classes).

        Args:
          labels: arrays of an `EventsField`, with times from the beginning of the signal.
          count: number of frames.
        """
        classes = len(self.output_names)
        frames = (labels["times"] - self.times.first) / self.times.step
        index = jnp.clip(jnp.ceil(frames - _ROUNDING), 0, count).astype(jnp.int32)
        of_class = jnp.where(labels["classes"] < 0, classes, labels["classes"])
        rows = jnp.arange(len(index))[:, None]
        changes = jnp.zeros((len(index), count + 1, classes), jnp.int32)
        for edge, change in ((0, 1), (1, -1)):  # onset and offset; padding is dropped
            changes = changes.at[rows, index[..., edge], of_class].add(change, mode="drop")
        return jnp.cumsum(changes, axis=1)[:, :-1] > 0

    def loss(
        self, outputs: jax.Array, targets: Any, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the cross-entropy in nats, summed over frames (B,), and the frames (B,).

        If events may overlap, the loss of a frame is the mean over classes of binary cross-entropy.
        With class weights a frame counts as much as its weight, or the mean weight of its classes.
        """
        targets, weights = targets if isinstance(targets, tuple) else (targets, None)
        if self.overlap:
            losses = optax.sigmoid_binary_cross_entropy(outputs, targets)
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        if weights is not None:
            losses = losses * weights
        if self.overlap:
            losses, weights = losses.mean(-1), None if weights is None else weights.mean(-1)
        loss, frames = over_frames(losses, lengths)
        return loss, frames if weights is None else over_frames(weights, lengths)[0]

    def probabilities(self, outputs: jax.Array) -> jax.Array:
        """Returns the probabilities that a decoder takes, float16 (..., outputs)."""
        function = jax.nn.sigmoid if self.overlap else jax.nn.softmax
        return function(outputs).astype(jnp.float16)

    def score(
        self, outputs: jax.Array, targets: jax.Array, lengths: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns the loss, and the probabilities of frames with their number and times."""
        valid = jnp.arange(outputs.shape[1]) < lengths[:, None]
        begin = self.times.first - self.times.step / 2
        return super().score(outputs, targets, lengths) | {
            "frames": jnp.where(valid[..., None], self.probabilities(outputs), 0),
            "frame_count": lengths,
            "first": jnp.full(lengths.shape, begin, jnp.float32),
            "step": jnp.full(lengths.shape, self.times.step, jnp.float32),
        }

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Description of the probabilities, the reference and the parameters of decoding."""
        seconds = ("first", "step", "median", "duration", "gap")
        return {
            **super().stored,
            "frames": Stored("f", (None, self.outputs)),
            "frame_count": Stored("iu"),
            "times": Stored("f", (None, 2)),
            "classes": Stored("i", (None,)),
            "counts": Stored("i"),
            "threshold": Stored("f", (len(self.output_names),)),
            **dict.fromkeys(seconds, Stored("f")),
        }

    def decoding(self, validation: Predictions | None) -> dict[str, np.ndarray]:
        """Returns the parameters of the decoder.

        They are chosen for the best segment-based F1. If classes exclude each other, they are
        chosen for the best annotated syllable error rate.
        """
        classes = len(self.output_names)
        if validation is None:
            threshold = 0.5 if self.overlap else 0.0
            return parameters_of(Decoder((threshold,) * classes, not self.overlap))
        metric = self.metrics[0] if self.overlap else AnnotatedSyllableErrorRate()
        return parameters_of(choose(validation, metric, classes))

    def decoder(self, parameters: Predictions) -> Decoder:
        """Returns the decoder that has the parameters of `decoding`."""
        seconds = (float(parameters[name]) for name in ("median", "duration", "gap"))
        return Decoder(tuple(parameters["threshold"].tolist()), not self.overlap, *seconds)

    def table(self, predictions: Predictions) -> list[Row]:
        """Returns the F1 of each class; None for a class without an event in the reference."""
        of_metrics = {
            metric.title: metric.of_classes(predictions)
            for metric in self.metrics
            if isinstance(metric, Counted) and metric.score == F1 and not metric.macro
        }
        valid = predictions["classes"][predictions["classes"] >= 0]
        counts = np.bincount(valid, minlength=len(self.output_names)).tolist()
        return [
            {"class": name, "events": counts[label]}
            | {
                title: float(scores[label]) if counts[label] else None
                for title, scores in of_metrics.items()
            }
            for label, name in enumerate(self.output_names)
        ]

    def target_sums(self, targets: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the number of frames with each output (outputs,), and of all frames."""
        hot = targets if self.overlap else jax.nn.one_hot(targets, self.outputs)
        valid = jnp.arange(hot.shape[1]) < lengths[:, None]
        sums = jnp.sum(hot, axis=(0, 1), where=valid[..., None], dtype=jnp.float32)
        return sums, valid.sum(dtype=jnp.float32)

    def trivial_outputs(self, mean: jax.Array, lengths: jax.Array, steps: int) -> jax.Array:
        """Returns the log-odds or log-frequencies of the training frames, (B, T, outputs)."""
        outputs = log_odds(mean) if self.overlap else jnp.log(mean + _EPSILON)
        return jnp.broadcast_to(outputs, (len(lengths), steps, self.outputs))


def _exclusive(active: Any) -> Any:
    """Returns 1 + the first active class of each frame (..., classes), or 0 without one."""
    return (1 + active.argmax(-1)) * active.any(-1)

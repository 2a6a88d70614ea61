"""The events of an excerpt as bars over time: those of the reference and of each variant."""

from collections.abc import Sequence
from dataclasses import dataclass

from gru_audio.data.fields import Event
from gru_audio.reports.comparison import Comparison
from gru_audio.reports.gate_plots import Excerpt
from gru_audio.tasks.event_metrics import events_of
from gru_audio.tasks.events import SoundEvents

REFERENCE = "Reference"


@dataclass(frozen=True)
class Bar:
    """An event of an excerpt.

    Attributes:
        event: the event, with times from the beginning of the recording.
        left, width: position in percent of the excerpt.
        lane: bars that overlap have different lanes, from 0.
    """

    event: Event
    left: float
    width: float
    lane: int


@dataclass(frozen=True)
class BarRow:
    """The events of the reference, or those that the first run of a variant has detected.

    Attributes:
        name: name of the variant, or `REFERENCE`.
        bars: the events, in the order of their onsets.
    """

    name: str
    bars: tuple[Bar, ...]

    @property
    def lanes(self) -> int:
        """Number of lanes, at least 1."""
        return 1 + max((bar.lane for bar in self.bars), default=0)


def bar_rows(comparison: Comparison, example: int, excerpt: Excerpt) -> list[BarRow]:
    """Returns the row of the reference, then a row for each variant; [] for other tasks."""
    if not isinstance(comparison.results.task, SoundEvents):
        return []
    names = comparison.results.task.output_names
    rows: list[BarRow] = []
    for variant in comparison.variants:
        for run in variant.runs:
            place = (run.predictions["example"] == example).nonzero()[0]
            if place.size:
                reference, system = (
                    each.named(names) for each in events_of(run.predictions, int(place[0]))
                )
                rows = rows or [BarRow(REFERENCE, bars(reference, excerpt))]
                rows.append(BarRow(variant.name, bars(system, excerpt)))
                break
    return rows


def bars(events: Sequence[Event], excerpt: Excerpt) -> tuple[Bar, ...]:
    """Returns the events that are heard in an excerpt; they are cut at its ends."""
    rate, steps = excerpt.signal.rate, len(excerpt.steps)
    start, seconds = excerpt.start / rate, steps / rate
    ends: list[float] = []  # of the last bar in each lane
    found = []
    for event in sorted(events):
        onset, offset = (min(max(t - start, 0.0), seconds) for t in event[:2])
        if onset >= offset:
            continue
        lane = next((i for i, end in enumerate(ends) if end <= event.onset), len(ends))
        ends[lane : lane + 1] = [event.offset]
        left, width = 100 * onset / seconds, 100 * (offset - onset) / seconds
        found.append(Bar(event, left, width, lane))
    return tuple(found)

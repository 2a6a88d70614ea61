"""Random lists of events."""

import numpy as np

from gru_audio.events.decode import Events

CLASSES = 3


def of(*events: tuple[float, float, int]) -> Events:
    times = np.array([event[:2] for event in events], np.float64).reshape(-1, 2)
    return Events(times, np.array([event[2] for event in events], np.int64))


def random_pair(seed: int) -> tuple[Events, Events]:
    """A reference, and what a system might detect of it: times in ms, the same in each version."""
    rng = np.random.Generator(np.random.PCG64(seed))
    reference, system = [], []
    for _ in range(4 + int(rng.random() * 12)):
        onset, duration, label, moved, kept, confused, extra = rng.random(7)
        start, length = round(3 * onset, 3), round(0.05 + 0.9 * duration, 3)
        reference.append((start, round(start + length, 3), int(CLASSES * label)))
        if kept < 0.8:
            start = round(max(0.0, start + 0.6 * (moved - 0.5)), 3)
            length = round(length * (0.6 + 0.8 * confused), 3)
            label = label if confused < 0.8 else extra
            system.append((start, round(start + length, 3), int(CLASSES * label)))
        if extra < 0.2:
            system.append((round(3 * moved, 3), round(3 * moved + 0.3, 3), int(CLASSES * kept)))
    return of(*reference), of(*system)

"""From the enqueue to the start of the run when nothing else is going on: both workers idle, their threads warm."""

from __future__ import annotations

from statistics import median

from .. import measures
from ..contenders import bare, inproc
from ..rows import Row, ratio

ROUND = 50  # single calls of each side, taking turns; the medians of a round make one ratio

# Long enough for both cores to fall asleep before each call. After 1 ms one of them may be awake, and a call takes half
# the time where it is: medians then tell how often that was, 0.93 to 1.36 of each other in six runs of the same engine.
PAUSE = 0.005  # seconds


def measure(*, quick: bool) -> list[Row]:
    sides = [inproc.start(), bare.start()]
    for side in sides:
        measures.warm(side)
    measures.idle_starts(sides, ROUND, PAUSE)
    pairs = []
    for _ in range(6 if quick else 40):
        ours, other = measures.idle_starts(sides, ROUND, PAUSE)
        pairs.append((median(ours), median(other)))
    return [ratio("idle to start, p50, us", pairs, 1.2)]

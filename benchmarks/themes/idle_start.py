"""From the enqueue to the start of the run when nothing else is going on: both workers idle, their threads warm."""

from __future__ import annotations

from statistics import median

from .. import measures
from ..contenders import bare, inproc
from ..rows import Row, ratio

ROUND = 50  # single calls of each side, taking turns; the medians of a round make one ratio


def measure(*, quick: bool) -> list[Row]:
    sides = [inproc.start(), bare.start()]
    for side in sides:
        measures.warm(side)
    measures.idle_starts(sides, ROUND)
    pairs = []
    for _ in range(6 if quick else 40):
        ours, other = measures.idle_starts(sides, ROUND)
        pairs.append((median(ours), median(other)))
    return [ratio("idle to start, p50, us", pairs, 1.2)]

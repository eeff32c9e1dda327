"""From the enqueue to the start of the run when nothing else is going on: both workers idle, their threads warm."""

from __future__ import annotations

from .. import measures
from ..contenders import bare, inproc
from ..rows import Row, ratio

WARM_UP = 50  # calls of each side


def measure(*, quick: bool) -> list[Row]:
    sides = [inproc.start(), bare.start()]
    for side in sides:
        measures.warm(side)
    measures.idle_starts(sides, WARM_UP)
    # Each call beside the other's next one. The caller's thread changes its core every few calls, which doubles what
    # the next ones take: medians of rounds then tell more of how many of those a round has met than of either side.
    ours, other = measures.idle_starts(sides, 300 if quick else 2000)
    return [ratio("idle to start, p50, us", list(zip(ours, other, strict=True)), 1.2)]

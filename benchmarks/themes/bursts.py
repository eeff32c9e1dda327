"""From the first enqueue to the end of the last no-op run, over bursts of 20,000."""

from __future__ import annotations

from functools import partial

from .. import measures
from ..contenders import bare, inproc
from ..rows import Row, interleaved, ratio

BURST = 20_000


def measure(*, quick: bool) -> list[Row]:
    rounds = 3 if quick else 21
    ours, other = inproc.start(), bare.start()
    rows = []
    for producers, name in ((1, "1 producer"), (4, "4 producers")):
        measured = partial(measures.burst, count=BURST, producers=producers)
        pairs = interleaved(rounds, partial(measured, ours), partial(measured, other))
        rows.append(ratio(f"enqueue to end, {name}, bursts of 20,000, us a run", pairs, 0.5))
    return rows

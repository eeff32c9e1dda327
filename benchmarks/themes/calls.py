"""What an enqueue costs its caller, with both workers busy: the part of a job that a request waits for."""

from __future__ import annotations

from .. import measures
from ..contenders import bare, inproc
from ..rows import Row, interleaved, ratio


def measure(*, quick: bool) -> list[Row]:
    count, rounds = (1000, 5) if quick else (2000, 31)
    ours, other = inproc.start(), bare.start()
    pairs = interleaved(rounds, lambda: measures.call(ours, count), lambda: measures.call(other, count))
    return [ratio("perform_async, both workers busy, p50, us", pairs, 0.4)]

"""What a waiting run with two small arguments keeps alive, without a framework."""

from __future__ import annotations

from .. import measures
from ..contenders import bare, inproc
from ..rows import Row, ratio


def measure(*, quick: bool) -> list[Row]:
    count = 2000 if quick else 20_000
    pair = (measures.waiting_bytes(inproc.start(), count), measures.waiting_bytes(bare.start(), count))
    return [ratio("a waiting run without a framework, bytes", [pair])]

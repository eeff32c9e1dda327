"""How a thing changes hands without ever being in neither: the base of "accepted once, never lost"."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat, starmap
from typing import TypeVar

T = TypeVar("T")


def mover(source: Callable[..., T], sink: Callable[[T], object], *args: object) -> Callable[[], object]:
    """Return a callable that moves one item, what *source* returns for *args*, to *sink* in a single call of C code.

    Nothing can fall between the two, neither a signal handler's exception nor one raised in the thread from outside, so
    the item is always in one of the two places. What *source* raises comes out of the call.
    """
    return map(sink, starmap(source, repeat(args))).__next__

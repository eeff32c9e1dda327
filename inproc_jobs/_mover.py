"""How a thing changes hands without ever being in neither: the base of "accepted once, never lost"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_never: Any = object()


def mover(source: Callable[[], T], sink: Callable[[T], object]) -> Callable[[], object]:
    """Return a callable that moves one item from *source* to *sink* in a single call of C code.

    Nothing can fall between the two, neither a signal handler's exception nor one raised in the thread from outside, so
    the item is always in one of the two places. What *source* raises comes out of the call.
    """
    return map(sink, iter(source, _never)).__next__

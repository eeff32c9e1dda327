"""What follows a run from the thread that enqueues it to the one that performs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any

Entrance = Callable[[], AbstractContextManager[Any]]
Carrier = Callable[[], Entrance | None]

_carriers: tuple[Carrier, ...] = ()
_left_behind: frozenset[ContextVar[Any]] = frozenset()


def carry(carrier: Carrier) -> None:
    """Have *carrier* called at every enqueue, in the caller's thread.

    What it returns is called around each attempt, in the worker's thread, and gives a context manager; None carries
    nothing. Registering a carrier twice is the same as once. Integrations call this when they are imported.
    """
    global _carriers
    if carrier not in _carriers:
        _carriers = (*_carriers, carrier)


def leave_behind(*variables: ContextVar[Any]) -> None:
    """Keep *variables* out of every captured context: what they hold must not outlive the caller."""
    global _left_behind
    _left_behind |= set(variables)


def capture() -> tuple[Context | None, tuple[Entrance, ...] | None]:
    """Return the caller's context variables and what its carriers give, or None for either where there is nothing."""
    context = _capture_context()
    if not _carriers:
        return context, None
    entrances = [entrance for carrier in _carriers if (entrance := carrier()) is not None]
    return context, tuple(entrances) or None


def _capture_context() -> Context | None:
    context = copy_context()
    if not context or _left_behind.isdisjoint(context):
        return context or None
    kept = [(variable, value) for variable, value in context.items() if variable not in _left_behind]
    if not kept:
        return None
    # A variable cannot be unset in a copy, so the wanted ones go into a context of their own.
    fresh = Context()
    fresh.run(_set_all, kept)
    return fresh


def _set_all(items: Iterable[tuple[ContextVar[Any], Any]]) -> None:
    for variable, value in items:
        variable.set(value)


@contextmanager
def entered(entrances: tuple[Entrance, ...]) -> Iterator[None]:
    """Stand inside all that was captured."""
    with ExitStack() as stack:
        for entrance in entrances:
            stack.enter_context(entrance())
        yield

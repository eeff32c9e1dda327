"""What follows a run from the thread that enqueues it to the one that performs it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Entrance = Callable[[], AbstractContextManager[Any]]
Carrier = Callable[[], Entrance | None]

carriers: tuple[Carrier, ...] = ()
_left_behind: frozenset[ContextVar[Any]] = frozenset()


def carry(carrier: Carrier) -> None:
    """Have *carrier* called at every enqueue, in the caller's thread.

    What it returns is called around each attempt, in the worker's thread, and gives a context manager; None carries
    nothing. Registering a carrier twice is the same as once. Integrations call this when they are imported.
    """
    global carriers
    if carrier not in carriers:
        carriers = (*carriers, carrier)


def run_coroutines_by(run: Callable[[Callable[[Any], Coroutine[Any, Any, Any]], Any], Any]) -> None:
    """Have ``run(function, argument)`` call a coroutine function and bring it to its end in the caller's thread."""
    global run_coroutine
    run_coroutine = run


def _run_coroutine(function: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any) -> Any:
    return sys.modules["asyncio"].run(function(argument))  # loaded when the job class was made


run_coroutine = _run_coroutine


def leave_behind(*variables: ContextVar[Any]) -> None:
    """Keep *variables* out of every captured context: what they hold must not outlive the caller."""
    global _left_behind
    _left_behind |= set(variables)


def capture() -> tuple[Entrance, ...] | None:
    """Return what the carriers give in the caller's thread, or None where that is nothing."""
    if len(carriers) == 1:
        entrance = carriers[0]()
        return None if entrance is None else (entrance,)
    return tuple(entrance for carrier in carriers if (entrance := carrier()) is not None) or None


def carried(context: Context) -> Context | None:
    """Return the caller's *context* less what is left behind, or None where that is nothing."""
    if _left_behind.issuperset(context):
        return None
    if _left_behind.isdisjoint(context):
        return context
    kept = [(variable, value) for variable, value in context.items() if variable not in _left_behind]
    # A variable cannot be unset in a copy, so the wanted ones go into a context of their own.
    fresh = Context()
    fresh.run(_set_all, kept)
    return fresh


def _set_all(items: Iterable[tuple[ContextVar[Any], Any]]) -> None:
    for variable, value in items:
        variable.set(value)


def within(entrances: tuple[Entrance, ...], call: Callable[[T], R], argument: T) -> R:
    """Return ``call(argument)``, called inside all of *entrances*; an ExitStack would cost as much as a run."""
    if not entrances:
        return call(argument)
    with entrances[0]():
        return within(entrances[1:], call, argument)

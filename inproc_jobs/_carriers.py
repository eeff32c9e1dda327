"""What follows a run from the thread that enqueues it to the one that performs it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Capture = Callable[[], Any]
Enter = Callable[[Any], AbstractContextManager[Any]]

carriers: list[tuple[Capture, Enter]] = []  # grows, and is never another one: each enqueue looks at it
_left_behind: frozenset[ContextVar[Any]] = frozenset()


def carry(capture: Capture, enter: Enter) -> None:
    """Have *capture* called at every enqueue, in the caller's thread, and what it returns carried to each attempt.

    Around the attempt, in the worker's thread, the context manager that ``enter(captured)`` gives is entered; None
    carries nothing. To register the same twice is the same as once. Integrations call this when they are imported.
    """
    if (capture, enter) not in carriers:
        carriers.append((capture, enter))


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


def capture(context: Context) -> tuple[Context | None, tuple[Any, ...] | None]:
    """Return what follows a run out of the caller's thread, whose *context* this is a copy of.

    The context less what is left behind, or None if that is empty; and what was captured, by the order of the carriers,
    or None without any.
    """
    kept = None if _left_behind.issuperset(context) else _kept(context)
    if len(carriers) == 1:  # as in a Flask request
        captured = carriers[0][0]()
        return kept, None if captured is None else (captured,)
    return kept, tuple([capture() for capture, _ in carriers]) or None


def _kept(context: Context) -> Context:
    if _left_behind.isdisjoint(context):
        return context
    items = [(variable, value) for variable, value in context.items() if variable not in _left_behind]
    # A variable cannot be unset in a copy, so the wanted ones go into a context of their own.
    fresh = Context()
    fresh.run(_set_all, items)
    return fresh


def _set_all(items: Iterable[tuple[ContextVar[Any], Any]]) -> None:
    for variable, value in items:
        variable.set(value)


def within(captured: tuple[Any, ...], call: Callable[[T], R], argument: T, *, at: int = 0) -> R:
    """Return ``call(argument)``, called inside of all that was *captured*; an ExitStack would cost as much as a run."""
    if at == len(captured):
        return call(argument)
    if captured[at] is None:
        return within(captured, call, argument, at=at + 1)
    with carriers[at][1](captured[at]):
        return within(captured, call, argument, at=at + 1)

"""What the engine knows of one job class: what to call, with which arguments and options."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from . import _report
from ._options import Options

_logger = logging.getLogger(__name__)

_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


class Observer(Protocol):
    """What an integration is told of the runs of its own job classes: before any receiver of a signal, or instead."""

    def enqueued(self, run: Any) -> None:
        """*run* is accepted, and no worker has it yet."""

    def refused(self, run: Any) -> None:
        """*run* was not accepted, or its transaction was rolled back; its arguments are still there."""

    def retried(self, run: Any, error: BaseException) -> None:
        """An attempt has raised *error* and another one follows."""

    def closed(self, run: Any) -> None:
        """*run* has ended, and its arguments are still there. One that failed is this one's to log."""


class Unopened:
    """Stands where the queue of a job class will be, until its first use in this process makes that."""

    __slots__ = ("_definition",)

    pid = 0  # of no process

    def __init__(self, definition: Definition) -> None:
        self._definition = definition

    def accept(self, *call: Any) -> Any:
        """As ``JobQueue.accept``."""
        return self._definition.open().accept(*call)

    def accept_later(self, *call: Any) -> Any:
        """As ``JobQueue.accept_later``."""
        return self._definition.open().accept_later(*call)

    def perform_now(self, *call: Any) -> Any:
        """As ``JobQueue.perform_now``."""
        return self._definition.open().perform_now(*call)


class Definition:
    """What the engine knows of one job class.

    Attributes:
        job: the class, or the function under ``@job``: the sender of its signals.
        name: unique among the living job classes of the process.
        options: checked.
        call: performs a run with its arguments and returns the value; a coroutine function where *awaited*.
        fits: raises TypeError if called with arguments that do not fit ``perform``.
        awaited: whether ``perform`` is a coroutine function.
        observer: what is told of its runs, if anything is.
        open: makes the queue of this process, or finds it, and returns it; what makes queues sets it.
        queue: the queue of the process that made it; ``Unopened`` until its first enqueue.
        queues: the same by process id, so that two that are made at once can be settled on one of them.
    """

    __slots__ = (
        "__weakref__",
        "awaited",
        "call",
        "fits",
        "job",
        "name",
        "observer",
        "open",
        "options",
        "queue",
        "queues",
    )

    def __init__(
        self, job: Any, name: str, options: Options, perform: Callable[..., Any], call: Callable[[Any], Any], skip: int
    ) -> None:
        self.job: Any = job
        self.name: str = name
        self.options: Options = options
        self.call: Callable[[Any], Any] = call
        self.fits: Callable[..., None] = signature_stub(perform, f"{perform.__qualname__}", skip)
        self.awaited: bool = inspect.iscoroutinefunction(inspect.unwrap(perform))
        self.observer: Observer | None = None
        self.open: Callable[[], Any]
        self.queue: Any = Unopened(self)
        self.queues: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"<Definition of {self.name}>"

    def tell(self, happening: str, *what: object) -> None:
        """Call a method of the observer, if there is one; what it raises is logged."""
        if self.observer is not None:
            call = partial(getattr(self.observer, happening), *what)
            _report.shielded(_logger, lambda: f"the observer of {self.name}", call)


def signature_stub(function: Callable[..., Any], name: str, skip: int = 0) -> Callable[..., None]:
    """Return a function with the parameters of *function*, less the first *skip*, that does nothing.

    To call it is the cheapest way to see whether arguments fit: Python itself binds them, at the cost of one call,
    where ``Signature.bind`` costs ten. What it raises names *name*.
    """
    try:
        every = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # written in C, without a signature
        return _anything
    parameters = every[skip:]
    bound = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    source = _lambda_source(every if bound else parameters)
    stub: Callable[..., None] = eval(source, {"_given": None})  # noqa: S307 - made of identifiers alone
    stub.__name__ = "perform"
    stub.__qualname__ = name
    # Where any keyword would do, the name of what is skipped does not: perform(self, **data) takes no self=1.
    return partial(stub, *[None] * skip) if bound and skip else stub


def _anything(*args: object, **kwargs: object) -> None:
    """Accept whatever is given."""


def _lambda_source(parameters: list[inspect.Parameter]) -> str:
    parts: list[str] = []
    kinds = [parameter.kind for parameter in parameters]
    for previous, parameter in zip([None, *parameters], [*parameters, None], strict=True):
        before = previous.kind if previous else None
        kind = parameter.kind if parameter else None
        if before is inspect.Parameter.POSITIONAL_ONLY and kind is not before:
            parts.append("/")
        if (
            kind is inspect.Parameter.KEYWORD_ONLY
            and before is not kind
            and inspect.Parameter.VAR_POSITIONAL not in kinds
        ):
            parts.append("*")
        if parameter is not None:
            star = _STARS.get(parameter.kind, "")
            default = "" if parameter.default is inspect.Parameter.empty else "=_given"
            parts.append(f"{star}{parameter.name}{default}")
    return f"lambda {', '.join(parts)}: None"

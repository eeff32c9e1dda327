"""One line of the table of budgets, and how the figures of many rounds become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

Pair = tuple[float, float]  # ours and the other's, from the same round


@dataclass(frozen=True)
class Row:
    """A measured line.

    Attributes:
        what: what was measured, with its unit at the end.
        ours: the median over the rounds.
        other: likewise of what it is held against, mostly a bare ThreadPoolExecutor.
        compared: what the budget is about.
        by: how ``compared`` came about: "ratio", "difference" or "value" (then it is ``ours``).
        low, high: the quartiles of ``compared`` over the rounds: how much to trust it.
        budget: the most that ``compared`` may be; None where DESIGN names none.
        note: what to know when reading the line.
        failed: nothing could be measured.
    """

    what: str
    ours: float = 0.0
    other: float | None = None
    compared: float = 0.0
    by: str = "value"
    low: float | None = None
    high: float | None = None
    budget: float | None = None
    note: str = ""
    failed: bool = False

    @property
    def verdict(self) -> str:
        """Either "ok" or "over", or "" where there is no budget."""
        if self.failed:
            return "failed"
        if self.budget is None:
            return ""
        return "ok" if self.compared <= self.budget else "over"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the verdict."""
        return {**asdict(self), "verdict": self.verdict}


def ratio(what: str, pairs: Sequence[Pair], budget: float | None = None, note: str = "") -> Row:
    """Return the line of a budget that is a share of the other's figure: the median of the rounds' ratios."""
    return _row(what, pairs, [ours / other for ours, other in pairs], "ratio", budget, note)


def difference(what: str, pairs: Sequence[Pair], budget: float | None = None, note: str = "") -> Row:
    """Return the line of a budget that comes on top of the other's figure."""
    return _row(what, pairs, [ours - other for ours, other in pairs], "difference", budget, note)


def value(what: str, figures: Sequence[float], budget: float | None = None, note: str = "") -> Row:
    """Return the line of a budget that is an absolute figure."""
    return _row(what, [(figure, None) for figure in figures], figures, "value", budget, note)


def _row(
    what: str,
    pairs: Sequence[tuple[float, float | None]],
    compared: Sequence[float],
    by: str,
    budget: float | None,
    note: str,
) -> Row:
    others = [other for _, other in pairs if other is not None]
    low, _, high = quantiles(compared, n=4, method="inclusive") if len(compared) > 1 else (None, None, None)
    return Row(
        what=what,
        ours=median(ours for ours, _ in pairs),
        other=median(others) if others else None,
        compared=median(compared),
        by=by,
        low=low,
        high=high,
        budget=budget,
        note=note,
    )


def interleaved(rounds: int, ours: Callable[[], float], other: Callable[[], float]) -> list[Pair]:
    """Call both once a round, taking turns at who is first, and return their figures; a first round is not counted."""
    ours(), other()
    pairs = []
    for number in range(rounds):
        if number % 2:
            theirs = other()
            pairs.append((ours(), theirs))
        else:
            pairs.append((ours(), other()))
    return pairs

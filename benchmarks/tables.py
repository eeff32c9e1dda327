"""The two tables as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .rows import Row


def budgets(rows: Sequence[Row]) -> str:
    """Return the table of DESIGN's budgets, its notes below."""
    lines = [("budget of DESIGN, section 8", "ours", "other", "compared", "quartiles", "budget", "")]
    notes: list[str] = []
    for row in rows:
        mark = ""
        if row.note:
            if row.note not in notes:
                notes.append(row.note)
            mark = f" [{notes.index(row.note) + 1}]"
        lines.append((row.what + mark, *_figures(row), row.verdict))
    text = _aligned(lines)
    return "\n".join([text, "", *(f"[{number}] {note}" for number, note in enumerate(notes, 1))])


def _figures(row: Row) -> tuple[str, ...]:
    if row.failed:
        return ("",) * 5
    unit = {"ratio": "x", "difference": "more", "value": ""}[row.by]
    compared = "" if row.by == "value" else f"{_number(row.compared)} {unit}"
    quartiles = "" if row.low is None or row.high is None else f"{_number(row.low)} to {_number(row.high)}"
    return (
        _number(row.ours),
        "" if row.other is None else _number(row.other),
        compared,
        quartiles,
        "" if row.budget is None else f"{_number(row.budget)} {unit}".strip(),
    )


def peers(table: Sequence[dict[str, Any]]) -> str:
    """Return the table of peers."""
    lines = [("runner", "version", "call, us", "per job, us", "x bare", "idle to start, us", "bytes a waiting job")]
    for peer in table:
        if "missing" in peer:
            lines.append((peer["name"], peer["missing"], "", "", "", "", ""))
        else:
            figures = (peer[key] for key in ("call", "job", "against", "idle", "bytes"))
            lines.append((peer["name"], peer["version"], *map(_number, figures)))
    return _aligned(lines)


def _number(figure: float) -> str:
    """Return three significant digits, and no fraction from 100 on."""
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    if abs(figure) >= 10:
        return f"{figure:.1f}"
    return f"{figure:.2f}" if abs(figure) >= 0.1 or not figure else f"{figure:.3f}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_line(line, widths) for line in (lines[0], rule, *lines[1:]))


def _line(cells: tuple[str, ...], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([cells[0].ljust(len(first)), *others])

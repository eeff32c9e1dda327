"""Print the table of servers and ways of stopping: ``python tests/servers [--jobs 2] [--columns term,int] [row ...]``.

A row is named by its beginning. Each cell is what was seen, or FAILED; ``~`` is a known limit of the server, ``!`` one that was
not met this time, ``-`` says nothing about it. What failed is told on standard error; the status is 0 if nothing did.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # where pytest finds what all tests share

from columns import COLUMNS, NotApplicable, Stop, columns, judge, reference
from live import Row
from rows import ROWS, missing


def cell(row: Row, column: str, told: list[str]) -> str:
    """Judge one cell; add what is to be told about it to *told*."""
    limit = row.limits.get(column)
    try:
        seen = judge(row, column)
    except NotApplicable as error:
        told.append(f"-- {row.name}, {column}: {error}")
        return "-"
    except Exception as error:
        if limit is not None:
            return "~"
        print(f"== {row.name}, {column}: {type(error).__name__} {error}", file=sys.stderr, flush=True)
        return "FAILED"
    return seen if limit is None else f"! {seen}"


def why_not(row: Row) -> str:
    """Return why *row* cannot be judged here, or nothing."""
    if (needed := missing(row)) is not None:
        return f"not here: {needed}"
    try:
        reference(row, Stop(row.stop))
    except AssertionError as error:  # it does not even start without us
        return f"does not start here: {str(error).strip().splitlines()[-1]}"
    return ""


def main() -> int:
    """Return 0 if no cell failed."""
    parser = argparse.ArgumentParser(prog="python tests/servers")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--columns", help="names, separated by commas")
    parser.add_argument("rows", nargs="*", help="how the names of rows begin")
    given = parser.parse_args()
    rows = [row for row in ROWS if row.name.startswith(tuple(given.rows) or "")]
    chosen = given.columns.split(",") if given.columns else list(COLUMNS)
    told: list[str] = []
    failed = False
    print("".join(f"{name:26}" if not name else f"{name:>10}" for name in ("", *chosen)), flush=True)
    pool = ThreadPoolExecutor(given.jobs)
    try:
        reasons = [pool.submit(why_not, row) for row in rows]
        cells = [
            [
                pool.submit(cell, row, name, told) if name in columns(row) and not reason.result() else None
                for name in chosen
            ]
            for row, reason in zip(rows, reasons, strict=True)
        ]
        for row, reason, line in zip(rows, reasons, cells, strict=True):
            seen = ["" if one is None else one.result() for one in line]
            failed = failed or "FAILED" in seen
            print(f"{row.name:26}{reason.result() or ''.join(f'{one:>10}' for one in seen)}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    print("\nKnown limits (~):")
    for row in rows:
        for reason in dict.fromkeys([*row.limits.values(), row.now_and_then]):
            names = ", ".join(name for name, why in row.limits.items() if why == reason) or "now and then"
            if reason:
                print(f"   {row.name}, {names}: {reason}")
    print("\n".join(["", *sorted(told)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

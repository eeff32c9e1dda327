"""Measure and print: each theme in a process of its own, one after the other, then the peers."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from . import machine, peers, tables
from .rows import Row
from .themes import THEMES

LIMIT = 600  # seconds for one theme


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    header = machine.describe(quick=options.quick)
    if not options.json:
        print("\n".join(header.values()), end="\n\n", flush=True)
    themes = () if options.only == "peers" else options.theme or THEMES
    budgets = [row for theme in themes for row in _measure(theme, quick=options.quick)]
    if not options.json and budgets:
        print(tables.budgets(budgets), end="\n\n", flush=True)
    table = [] if options.only == "budgets" or options.theme else peers.measure(quick=options.quick)
    header["load after"] = machine.load("after")
    if options.json:
        rows = [row.as_dict() for row in budgets]
        print(json.dumps({"header": header, "budgets": rows, "peers": table}, indent=2))
    else:
        print(tables.peers(table) if table else "", header["load after"], sep="\n\n" if table else "")
    if any(row.verdict == "failed" for row in budgets):
        return 1
    return int(options.strict and any(row.verdict == "over" for row in budgets))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the ratios are rougher")
    parser.add_argument("--only", choices=("budgets", "peers"), help="one of the two tables")
    parser.add_argument("--theme", choices=THEMES, action="append", help="only these rows of the budgets")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the tables")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a budget is over; the default is 0")
    return parser


def _measure(theme: str, *, quick: bool) -> list[Row]:
    print(f"measuring {theme} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.themes", theme, *(["--quick"] if quick else [])]
    try:
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return [Row(what=f"{theme}: could not be measured", failed=True)]
    return [Row(**row) for row in json.loads(answer)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

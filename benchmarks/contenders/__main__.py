"""One contender in a process of its own: reads what to measure, a JSON line each, and answers with the figure.

Of its own, because a library's idle threads would poll beside the others' measurements, and because importing a
framework changes what an enqueue does.
"""

from __future__ import annotations

import json
import sys
from statistics import median
from typing import Any

from .. import measures
from . import Contender, start


def main(module: str) -> None:
    try:
        contender = start(module)
    except ImportError as error:
        _answer({"missing": f"not installed ({error.name or error})"})
        return
    measures.warm(contender)
    _answer({"version": contender.version, "polls": contender.polls})
    for line in sys.stdin:
        question = json.loads(line)
        _answer({"figure": _figure(contender, question["what"], question["count"])})
    contender.close()


def _figure(contender: Contender, what: str, count: int) -> float:
    if what == "idle":
        return median(measures.idle_starts([contender], count)[0])
    return {"call": measures.call, "job": measures.busy_burst, "bytes": measures.waiting_bytes}[what](contender, count)


def _answer(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


main(sys.argv[1])

"""The backend of ``django.tasks`` beside Django's immediate one and django-tasks-local: what a task costs.

Django's immediate backend performs the task inside the call, so its time per task is also that of its call.
"""

from __future__ import annotations

import sys

from .. import measures
from ..contenders import Contender, start
from ..rows import Row, interleaved, ratio

IMMEDIATE = "Django's immediate backend, which performs the task inside the call"
LOCAL = "django-tasks-local, which sends no signals and sees to neither connections nor locale"


def measure(*, quick: bool) -> list[Row]:
    try:
        ours, immediate = start("inproc_django"), start("django_immediate")
    except ImportError as error:
        print(f"not measured, for it needs Django 6: {error}", file=sys.stderr)
        return []
    count, rounds = (1000, 5) if quick else (3000, 21)
    measures.warm(ours)
    rows = [
        _row("enqueue to end of a task, us, beside immediate", ours, immediate, rounds, count, note=IMMEDIATE),
    ]
    calls = interleaved(rounds, lambda: measures.call(ours, count), lambda: measures.burst(immediate, count))
    rows.append(ratio("enqueue() of a task, both workers busy, us, beside immediate", calls, note=IMMEDIATE))
    try:
        local = start("django_tasks_local")
    except ImportError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return rows
    measures.warm(local)
    rows.append(_row("enqueue to end of a task, us, beside local", ours, local, rounds, count, note=LOCAL))
    calls = interleaved(rounds, lambda: measures.call(ours, count), lambda: measures.call(local, count))
    rows.append(ratio("enqueue() of a task, both workers busy, us, beside local", calls, note=LOCAL))
    kept = (measures.waiting_bytes(ours, count), measures.waiting_bytes(local, count))
    rows.append(ratio("a waiting task, bytes, beside local", [kept], note=LOCAL))
    return rows


def _row(what: str, ours: Contender, other: Contender, rounds: int, count: int, *, note: str) -> Row:
    pairs = interleaved(rounds, lambda: measures.burst(ours, count), lambda: measures.burst(other, count))
    return ratio(what, pairs, note=note)

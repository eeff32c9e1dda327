"""The same in a Flask request with the extension active: what a view pays, and what a run that waits keeps alive.

A process of its own, because the extension, once imported, has every enqueue carry its app. The bare executor has no
app context to push around a job, so its time per job is that of less work.
"""

from __future__ import annotations

from dataclasses import replace

from .. import measures
from ..contenders import bare, inproc_flask
from ..rows import Row, interleaved, ratio, value


def measure(*, quick: bool) -> list[Row]:
    count, rounds = (1000, 5) if quick else (2000, 21)
    ours = inproc_flask.start()
    other = replace(bare.start(), scope=ours.scope)
    calls = interleaved(rounds, lambda: measures.call(ours, count), lambda: measures.call(other, count))
    jobs = interleaved(rounds, lambda: measures.burst(ours, 10_000), lambda: measures.burst(other, 10_000))
    kept = measures.waiting_bytes(ours, 1000 if quick else 5000)
    return [
        ratio("perform_async in a Flask request, both workers busy, p50, us", calls, 0.4),
        ratio(
            "enqueue to end in a Flask request, us a run",
            jobs,
            note="ours pushes a fresh app context around each run, the other none; no budget",
        ),
        value("a waiting run, each enqueued in a Flask request of its own, bytes", [kept], 700),
    ]

"""What becomes of jobs when a process stops, forks or meets SystemExit: here, and with the peers.

    python3 benchmarks/probes.py

Takes some four minutes. Each probe is a script of its own that uses one library in the process, with two workers and
nothing added for the exit, and is watched from outside. The environment is that of ``run.py``.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 40.0  # seconds after which a script that has not ended is killed
BACKLOG = 200  # jobs of a tenth of a second: ten seconds of work for two workers

Enqueue = Callable[..., Any]


def act(what: str) -> None:
    """Do one job; what it says goes to standard output, a line for each."""
    if what == "tick":
        time.sleep(0.1)
    elif what == "hang":
        threading.Event().wait()
    elif what == "inner":
        time.sleep(0.5)
        try:
            enqueue("note")
        except RuntimeError as error:
            say(type(error).__name__)
    elif what == "exit":
        raise SystemExit("a job wants to leave")
    say(what)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def inproc_jobs() -> tuple[Enqueue, Enqueue | None]:
    from inproc_jobs import job

    one = job(workers=2)(act)
    return one.perform_async, one.perform_in


def bare() -> tuple[Enqueue, Enqueue | None]:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(2)
    return lambda what: pool.submit(act, what), None


def flask_executor() -> tuple[Enqueue, Enqueue | None]:
    from flask import Flask
    from flask_executor import Executor

    app = Flask("probe")
    app.config.update(EXECUTOR_TYPE="thread", EXECUTOR_MAX_WORKERS=2)
    executor = Executor(app)

    def submit(what: str) -> None:
        with app.test_request_context():
            executor.submit(act, what)

    return submit, None


def huey() -> tuple[Enqueue, Enqueue | None]:
    from huey import MemoryHuey

    memory = MemoryHuey("probe", results=False)
    task = memory.task()(act)
    memory.create_consumer(workers=2, periodic=False).start()
    return task, lambda delay, what: task.schedule((what,), delay=delay)


def dramatiq() -> tuple[Enqueue, Enqueue | None]:
    import dramatiq
    from dramatiq.brokers.stub import StubBroker

    broker = StubBroker()
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(act, max_retries=0)
    dramatiq.Worker(broker, worker_threads=2).start()
    return actor.send, lambda delay, what: actor.send_with_options(args=(what,), delay=int(delay * 1000))


CONTENDERS = {
    "inproc_jobs": (inproc_jobs, "inproc-jobs"),
    "bare executor": (bare, ""),
    "Flask-Executor": (flask_executor, "Flask-Executor"),
    "huey": (huey, "huey"),
    "dramatiq": (dramatiq, "dramatiq"),
}


def delayed() -> None:
    if later is None:
        say("not offered")
    else:
        later(0.5, "note")


def inner() -> None:
    enqueue("inner")
    time.sleep(0.2)  # huey polls


def backlog() -> None:
    for _ in range(BACKLOG):
        enqueue("tick")


def hang() -> None:
    enqueue("hang")
    time.sleep(0.5)


def idle() -> None:
    enqueue("note")
    time.sleep(1)


def fork() -> None:
    for _ in range(4):
        enqueue("tick")
    child = os.fork()
    enqueue("note" if child == 0 else "tick")
    time.sleep(2)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def leave() -> None:
    for _ in range(4):
        enqueue("exit")
    enqueue("note")
    time.sleep(2)


def watch(contender: str, probe: str) -> tuple[list[str], str, int | None, float]:
    """Run one script; return its lines, its standard error, its exit code, and its seconds from the last line on."""
    command = [sys.executable, __file__, contender, probe]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        code = None
        try:
            out, err = script.communicate(timeout=LIMIT)
            code = script.returncode
        except subprocess.TimeoutExpired:
            script.kill()
            out, err = script.communicate()
    lines = out.split("\n")
    finished = max((float(line.split()[1]) for line in lines if line.startswith("end ")), default=0.0)
    return lines, err, code, time.monotonic() - finished


def answers(contender: str) -> list[str]:
    """Probe one contender and return a cell for each probe."""
    cells = []
    lines, *_ = watch(contender, "delayed")
    cells.append("not offered" if "not offered" in lines else "runs" if "note" in lines else "dropped")
    lines, *_ = watch(contender, "inner")
    cells.append("runs" if "note" in lines else "RuntimeError" if "RuntimeError" in lines else "lost")
    lines, err, code, seconds = watch(contender, "backlog")
    named = sum("discarded" in line for line in err.splitlines())
    cells.append(f"{lines.count('tick')} of {BACKLOG} done, {named} named, exit code {code}, {seconds:.0f} s")
    *_, code, seconds = watch(contender, "hang")
    cells.append(f"ends after {seconds:.0f} s" if code is not None else f"still there after {seconds:.0f} s")
    cells.append(f"{min(watch(contender, 'idle')[-1] for _ in range(5)):.2f} s")
    lines, *_ = watch(contender, "fork")
    cells.append("runs" if "note" in lines else "lost")
    lines, err, *_ = watch(contender, "leave")
    cells.append(f"{'the next job runs' if 'note' in lines else 'wedged'}, {'logged' if 'leave' in err else 'silent'}")
    return cells


ROWS = (
    "a job due in 0.5 s, at the exit",
    "a job enqueued by a job while draining",
    "ten seconds of backlog at the exit",
    "a job that hangs, at the exit",
    "the stop of an idle process",
    "enqueued in a forked child",
    "SystemExit in a job, four times",
)


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    run = importlib.import_module("run")
    if Path(sys.prefix) != run.HOME:
        if not run.STAMP.exists():
            run.make_environment()
            run.STAMP.write_text(run.requirements())
        return subprocess.run([run.PYTHON, __file__], check=False).returncode
    columns = {name: answers(name) for name in CONTENDERS}
    print(f"{time.strftime('%d %B %Y')}, CPython {sys.version.split()[0]}, {os.uname().sysname}\n")
    heads = [
        f"{name} {importlib.metadata.version(package) if package else ''}".strip()
        for name, (_, package) in CONTENDERS.items()
    ]
    print(f"| probe | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for number, row in enumerate(ROWS):
        print(f"| {row} | {' | '.join(columns[name][number] for name in CONTENDERS)} |")
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    logging.basicConfig(level=logging.WARNING)
    enqueue, later = CONTENDERS[sys.argv[1]][0]()
    globals()[sys.argv[2]]()
    say(f"end {time.monotonic()}")

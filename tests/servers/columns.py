"""The ways of stopping: one column of the table each, judged from the ledger, the status, the time and what was written."""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from live import Ended, Row, Server, looks

# Once the main thread has ended, Python 3.12.0 to 3.12.2 start no thread any more (python/cpython#113964): what was
# enqueued a moment before is then done by one thread of ours, which must have the time for it.
ALONE = (3, 12) <= sys.version_info < (3, 12, 3)

WORK = 3.0 if ALONE else 1.5  # seconds that ten runs of 0.3 s may take on two workers
DEADLINE = WORK + 1.5  # seconds: shutdown_timeout of the app under test
SHORT = 2.0  # seconds: the same where a job hangs
GRACE = 1.0  # seconds past its deadline that a stop may take, whatever a job does
LOAD = 1.0  # seconds that a busy machine may add to what is measured from outside
IDLE = 0.05  # seconds that we may add to the stop of an idle server
TOO_LONG = 12.0  # seconds after which a server does not end by itself
LOCKED = 1.0  # seconds for which a job has the interpreter's lock
SOON = 0.2  # seconds between a request and a signal that is to meet it, or between two signals


class NotApplicable(Exception):
    """A way of stopping says nothing about a server; the reason is the message."""


@dataclass(frozen=True)
class Stop:
    """A way to ask a server for its end."""

    number: int | None  # None: the end of its standard input
    times: int = 1
    group: bool = False

    def __call__(self, server: Server) -> None:
        if self.number is None:
            server.hang_up()
            return
        pass_time(server.row.settles)
        for time in range(self.times):
            if time:
                pass_time(SOON)
            server.send(self.number, group=self.group)


def pass_time(seconds: float) -> None:
    """Let time pass where the time between two events is what is tested."""
    threading.Event().wait(seconds)


_lock = threading.Lock()  # guards _references
_references: dict[tuple[str, Stop], Ended] = {}


def reference(row: Row, stop: Stop) -> Ended:
    """Return how *row* ends by *stop* without our package, after one request."""
    key = (row.name, stop)
    with _lock:
        known = _references.get(key)
    if known is None:
        known = _end_idle(row, stop, without=True)
        if known.status is None:  # once more: gunicorn's master with its control thread now and then does not end
            known = _end_idle(row, stop, without=True)
        with _lock:
            _references[key] = known
    return known


def _end_idle(row: Row, stop: Stop, *, without: bool) -> Ended:
    with tempfile.TemporaryDirectory() as place, Server(row, Path(place), without=without, deadline=DEADLINE) as server:
        if without:
            server.tell("look")
        else:
            server.tell("enqueue", first=0, n=1, seconds=0)
            server.await_done(1)
        stop(server)
        return server.ended(TOO_LONG)


def _usual(row: Row, stop: Stop) -> Ended:
    usual = reference(row, stop)
    if usual.status is None:
        raise NotApplicable("does not end by it, without us either")
    return usual


def _assert_as_usual(row: Row, ended: Ended, usual: Ended, *, extra: float, or_status: tuple[int, ...] = ()) -> None:
    """Judge an end against that of the same server without us, *extra* seconds later at most."""
    told = re.sub(row.noise, lambda one: one[0] if "inproc_jobs" in one[0] else "", ended.errors)
    assert ended.status is not None, f"did not end\n{ended.errors}"
    assert ended.seconds <= usual.seconds + extra + row.looks + LOAD, (
        f"{ended.seconds:.1f} s, {usual.seconds:.1f} without us\n{ended.errors}"
    )
    assert ended.status in (usual.status, *or_status), (
        f"status {ended.status}, {usual.status} without us\n{ended.errors}"
    )
    for bad in ("Traceback", "Exception ignored", "core dumped"):
        assert told.count(bad) <= usual.errors.count(bad), ended.errors


def _assert_done(ended: Ended, numbers: range | list[int]) -> None:
    expected = Counter(numbers)
    lost, twice = sorted(expected - ended.done), sorted(ended.done - expected)
    assert not lost, f"lost {lost}\n{ended.errors}"
    assert not twice, f"done again {twice}\n{ended.errors}"


def _finishes(stop: Callable[[Row], Stop]) -> Callable[[Row, Path], str]:
    """Ten runs of 0.3 s are queued on two workers when the server is stopped."""

    def judge(row: Row, place: Path) -> str:
        usual = _usual(row, replace(stop(row), times=1))  # without us a second signal may come when it is all but gone
        with Server(row, place, deadline=DEADLINE) as server:
            server.tell("enqueue", first=0, n=10, seconds=0.3)
            stop(row)(server)
            ended = server.ended(TOO_LONG)
        _assert_done(ended, range(10))
        _assert_as_usual(row, ended, usual, extra=WORK, or_status=row.turns if stop(row).group else ())
        return f"{ended.seconds:.1f} s"

    return judge


def _known(number: int) -> Callable[[Row, Path], str]:
    """Ten runs are queued when a signal comes that only some servers know."""

    def judge(row: Row, place: Path) -> str:
        match row.signals.get(number):
            case "stop":
                return _finishes(lambda _: Stop(number))(row, place)
            case "reload":
                return _reloads(Stop(number))(row, place)
            case _:
                raise NotApplicable("not known to it")

    return judge


def _reloads(
    reload: Callable[[Server], object], *, settles: float = 0.0, seconds: float = 0.2
) -> Callable[[Row, Path], str]:
    """Ten runs are queued when the server is told to replace its workers; they are done, and it goes on."""

    def judge(row: Row, place: Path) -> str:
        usual = _usual(row, Stop(row.stop))
        with Server(row, place, deadline=DEADLINE) as server:
            pass_time(settles)
            old = server.tell("enqueue", first=0, n=10, seconds=seconds)
            reload(server)
            server.await_done(10)
            _await_another(server, old)
            server.await_ready(starts=2)
            server.tell("enqueue", first=10, n=2, seconds=0.1)
            server.await_done(12)
            Stop(row.stop)(server)
            ended = server.ended(TOO_LONG)
        _assert_done(ended, range(12))
        assert ended.status == usual.status, f"status {ended.status}, {usual.status} without us\n{ended.errors}"
        return "done"

    return judge


def _await_another(server: Server, old: str) -> None:
    for _ in looks(10.0):
        try:
            if server.tell("look") not in ("", old):  # nothing: from one that has ended in the middle of its answer
                return
        except (OSError, AssertionError):
            continue  # between two workers
    raise AssertionError(f"still process {old}\n{server.errors()}")


def _hangs(*, native: bool, after: float) -> Callable[[Row, Path], str]:
    def judge(row: Row, place: Path) -> str:
        stop = Stop(row.stop)
        usual = _usual(row, stop)
        with Server(row, place, deadline=SHORT) as server:
            server.tell("hang", first=0, after=after, native="yes" if native else "no")
            if not after:
                server.await_hanging()
            stop(server)
            ended = server.ended(TOO_LONG)
        assert ended.status is not None, f"did not end\n{ended.errors}"
        assert ended.seconds <= usual.seconds + SHORT + GRACE + LOAD, f"{ended.seconds:.1f} s\n{ended.errors}"
        if native:
            assert "in perform" in ended.errors, ended.errors
        else:
            assert len(re.findall(r"<Run \S+ of \S*Hung: discarded", ended.errors)) == 1, ended.errors
            assert ended.status == usual.status, f"status {ended.status}, {usual.status} without us\n{ended.errors}"
        return f"{ended.seconds:.1f} s"

    return judge


def _stuck(row: Row, place: Path) -> str:
    """A job has the interpreter's lock before the signal: no handler of Python's can run, but the server kills."""
    with Server(row, place, deadline=SHORT) as server:
        server.tell("hang", first=0, after=LOAD, native="yes")  # the answer needs the lock, too
        server.await_hanging()
        pass_time(SOON)
        Stop(row.stop)(server)
        ended = server.ended(TOO_LONG)
    assert ended.status is not None, f"did not end\n{ended.errors}"
    return f"{ended.seconds:.1f} s"


def _locked(row: Row, place: Path) -> str:
    """A job has the interpreter's lock for a while, in which several signals tell a worker to end."""
    stop = Stop(row.stop, times=2, group=True)
    usual = _usual(row, Stop(row.stop))
    with Server(row, place, deadline=DEADLINE) as server:
        server.tell("enqueue", first=0, n=4, seconds=0.3)
        server.tell("hang", first=4, after=SOON, native="yes", seconds=LOCKED)
        server.await_hanging()
        stop(server)
        ended = server.ended(TOO_LONG)
    _assert_done(ended, range(5))
    _assert_as_usual(row, ended, usual, extra=WORK + LOCKED, or_status=row.turns)
    return f"{ended.seconds:.1f} s"


def _late(row: Row, place: Path) -> str:
    """A request is under way when the server is stopped, and enqueues at its end; another comes meanwhile."""
    if row.console:
        raise NotApplicable("serves no requests")
    stop = Stop(row.stop)
    _usual(row, stop)
    with Server(row, place, deadline=DEADLINE) as server:
        server.tell("enqueue", first=0, n=4, seconds=0.3)
        slow = server.tell_later("late", first=100, n=2, seconds=0.1, after=0.5)
        pass_time(SOON)
        stop(server)
        pass_time(SOON)
        new = server.tell_later("enqueue", first=200, n=2, seconds=0.1)
        accepted = [(first, telling.accepted()) for first, telling in ((100, slow), (200, new))]
        ended = server.ended(TOO_LONG)
    # What has lost its answer may be done or not.
    sure = {*range(4), *(first + n for first, was in accepted if was for n in range(2))}
    _assert_done(ended, [*sure, *(set(ended.done) - sure)])
    assert ended.status is not None, ended.errors
    answered = [what for what, (_, was) in zip(("slow", "new"), accepted, strict=True) if was]
    assert set(row.answers) <= set(answered), f"answered {answered}, not {row.answers}\n{ended.errors}"
    return "+".join(answered) or "refused"


def _chain(row: Row, place: Path) -> str:
    """Runs enqueue further ones while the server stops."""
    stop = Stop(row.stop)
    usual = _usual(row, stop)
    with Server(row, place, deadline=DEADLINE) as server:
        server.tell("chain", first=0, n=5, seconds=0.2)
        stop(server)
        ended = server.ended(TOO_LONG)
    _assert_done(ended, range(5))
    _assert_as_usual(row, ended, usual, extra=1.0)
    return f"{ended.seconds:.1f} s"


def _idle(row: Row, place: Path) -> str:
    """A server that has worked and is idle ends as soon as it would have without us."""
    stop = Stop(row.stop)
    _usual(row, stop)
    ours, theirs = ([], [])
    more = IDLE
    for rounds in range(1, 16):
        theirs.append(_end_idle(row, stop, without=True).seconds)
        ours.append(_end_idle(row, stop, without=False).seconds)
        # A busy machine only adds; but some servers' own stops differ by more than what is looked for.
        more = min(min(ours) - min(theirs), median(ours) - median(theirs))
        if rounds >= 3 and more < IDLE + row.looks:
            return f"{more * 1000:+.0f} ms"
    raise AssertionError(f"{more * 1000:.0f} ms more: {ours} {theirs}")


def _fork(row: Row, place: Path) -> str:
    """A view and a job fork with multiprocessing; each run is done once, by the process that enqueued it."""
    stop = Stop(row.stop)
    usual = _usual(row, stop)
    with Server(row, place, deadline=DEADLINE) as server:
        server.tell("enqueue", first=0, n=6, seconds=0.3)
        server.tell("fork", first=10)
        server.tell("fork_in_job", first=20)
        stop(server)
        ended = server.ended(TOO_LONG)
    _assert_done(ended, [*range(6), 10, 20, 21])
    _assert_as_usual(row, ended, usual, extra=WORK + 0.5)
    return f"{ended.seconds:.1f} s"


def _retire(row: Row, place: Path) -> str:
    """A worker that is retired after some requests first does what they have enqueued."""
    usual = _usual(row, Stop(row.stop))
    with Server(row, place, deadline=DEADLINE) as server:
        pids = set()
        for first in range(0, 40, 4):
            pids.add(server.tell("enqueue", first=first, n=4, seconds=0.1))
            pass_time(SOON)  # some servers look once a second whether a worker is to be retired
        Stop(row.stop)(server)
        ended = server.ended(TOO_LONG)
    _assert_done(ended, range(40))
    assert len(pids) >= 2, "no worker was retired"
    assert ended.status == usual.status, f"status {ended.status}, {usual.status} without us\n{ended.errors}"
    return f"{len(pids)} workers"


def _refused(row: Row, place: Path) -> str:
    """Where no thread can run, the first enqueue says so."""
    with Server(row, place, deadline=DEADLINE) as server:
        try:
            server.tell("enqueue", first=0, n=1, seconds=0)
        except AssertionError:
            pass
        assert re.search(r"RejectedError: .*--enable-threads", server.errors()), server.errors()
    return "refused"


def _timeout(row: Row, place: Path) -> str:
    """A worker that is ended because a request takes too long first does what is queued, as far as it is let."""
    with Server(row, place, deadline=DEADLINE) as server:
        server.tell("enqueue", first=0, n=4, seconds=0.8)
        slow = server.tell_later("pause", seconds=30)
        server.await_done(4)
        slow.accepted()
        server.tell("enqueue", first=4, n=1, seconds=0)
        server.await_done(5)
        Stop(row.stop)(server)
        ended = server.ended(TOO_LONG)
    _assert_done(ended, range(5))
    return "done"


COLUMNS: dict[str, Callable[[Row, Path], str]] = {
    "term": _finishes(lambda row: Stop(row.stop)),
    "int": _finishes(lambda _: Stop(signal.SIGINT)),
    "quit": _known(signal.SIGQUIT),
    "hup": _known(signal.SIGHUP),
    "hung": _hangs(native=False, after=0.0),
    "native": _hangs(native=True, after=1.5),  # when the server has come to its end and the drain has begun
    "late": _late,
    "chain": _chain,
    "twice": _finishes(lambda row: Stop(row.stop, times=2)),
    "group": _finishes(lambda row: Stop(row.stop, group=True)),
    "group int": _finishes(lambda _: Stop(signal.SIGINT, group=True)),
    "locked": _locked,
    "idle": _idle,
    "fork": _fork,
    "end": _finishes(lambda _: Stop(None)),
    "retire": _retire,
    # A reloader looks at the sources once a second, first when it starts, and tells nobody: what is changed before that is
    # no change to it. So the runs outlast the second until it looks again.
    "touch": _reloads(Server.touch, settles=1.5, seconds=0.4),
    "timeout": _timeout,
    "refused": _refused,
    "stuck": _stuck,
}

OPTIONAL = ("locked", "end", "retire", "touch", "timeout", "refused", "stuck")


def columns(row: Row) -> list[str]:
    """Return the columns that make sense in *row*."""
    return [name for name in row.only or COLUMNS if name not in OPTIONAL or name in row.columns]


def judge(row: Row, column: str) -> str:
    """Judge one cell; anew, twice, where the server itself now and then does not do what it should."""
    for left in (2, 1, 0) if row.now_and_then and column not in row.limits else (0,):
        try:
            with tempfile.TemporaryDirectory() as place:
                return COLUMNS[column](row, Path(place))
        except (AssertionError, OSError) as error:
            if not left:
                raise
            print(f"-- {row.name}, {column}: anew after {type(error).__name__} {error}", file=sys.stderr, flush=True)
    raise NotImplementedError  # never: the last one returns or raises

"""Exit, signals and fork: how a process ends without losing what it accepted, in the order in which it happens.

The principle: the process ends exactly as it would have ended without this package, only later.

**Importing** registers hooks that do nothing as long as nothing was accepted: two doors of the interpreter's exit and
one of fork. No thread is started, no signal is touched.

**The definition of a job class**, ``init_app`` and the first enqueue look at SIGTERM and SIGINT (``watch_signals``),
early because only the main thread can, and again because servers install theirs after importing the app. Where a signal
would end the process at once, because its disposition is the system's default, a handler takes its place. What a server
has installed stays as it is: it leads to the exit doors by itself. Python's own SIGINT handler does too. Only uvicorn,
once it has shut down, puts back what it found before it imported the app, and raises the signal again; between the two,
the signals are looked at once more.

**The first enqueue** also meets the server (``meet_server``). Under uWSGI, whose C code owns the signals, no handler is
replaced; there it takes a third door, ``uwsgi.atexit``, for uWSGI can be told to skip the interpreter's exit, and has
each handler that could exit block the other signals: a worker is told twice by a process group and its master, and
would exit within its exit. Work is refused where no thread would ever run: uWSGI can be told so, and gevent can be told
to patch only half. Where the server's own grace period can be known and is shorter than ``shutdown_timeout``, it says
so.

**A signal** that this handler catches starts the clock: the deadline is ``shutdown_timeout`` seconds from here. With
nothing accepted the process dies of the signal at once. Otherwise a thread finishes the work, while the main thread
goes on serving and may go on enqueueing; then the process dies of that signal, by its default action, so that its
parent sees the status it expects. Process 1 of a container has no default action and exits with 128 + the signal's
number; so does a Python that was built without ctypes, where only the main thread could restore the default action.
Further signals change nothing, for there is a deadline; but a second SIGINT more than half a second later is
impatience and ends the wait.

A handler written in Python runs when the main thread comes back from C code. It may be in a query that nothing
interrupts, or be about to block when the signal strikes, and would then act on it late or never, where the default
action would not have waited. So the interpreter's C handler also writes the number into a pipe
(``signal.set_wakeup_fd``), and from the first enqueue on a thread reads it and acts; the handler does where that thread
is not (gevent and eventlet have but one), where an event loop uses the one wake-up descriptor there is, and where a
handler that somebody has put in front of it has called it.

**The main thread ends** (its last line, an uncaught exception, ``sys.exit``, a KeyboardInterrupt, a server that returns
from its loop). The interpreter calls the first door, before it joins any thread: work is finished until the deadline,
and what it enqueues is still accepted. The threads are then taken from the list of those that ``concurrent.futures``
joins without a limit, so that a job that hangs cannot hold up the exit. A Ctrl-C meanwhile is impatience, as above;
other signals change nothing, and what a server has installed for them is back afterwards; where an event loop has left
the system's default behind, ours takes its place once more. Nor does a greenlet's ``sys.exit`` end the wait.

**atexit callbacks** run next, and may still enqueue. The second door was registered first, so it comes last: it
finishes what they enqueued, then refuses and discards, naming each run that could not be finished. If a signal's death
was due, it dies it here.

**A job that holds the interpreter's lock** and never gives it back would stop all of the above. Where a door or a
signal waits for work, a watchdog of ``faulthandler`` stands by, which needs no lock: a second after the deadline it
writes where every thread is and ends the process; it is called off while the process forks. If the job has the lock
before the signal, nothing of this begins: all that happens without it is the byte in the pipe, and only another process
could read that. It is the server's or the platform's to kill such a process. (Armed beforehand, the watchdog would end
processes that nobody has stopped.)

**fork** leaves the child without threads, and with locks that may be held by threads that do not exist there. The child
starts empty: what the parent accepted is the parent's. Where a job itself forks, the child must not go on as a worker
when the job returns there: it ends. uWSGI forks without calling the hooks, so every enqueue compares process ids too.

Private names of CPython touched here, each guarded: ``threading._register_atexit`` (without it the first door is an
atexit callback too), ``threading._threading_atexits`` and ``concurrent.futures.thread._threads_queues``.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import faulthandler
import importlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, Protocol

from . import _clock, _report
from ._spawn import join, patched, spawn

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)  # what servers take for a request to end
SAME_REQUEST = 0.5  # seconds within which a second SIGINT is the same one: a process group's and its master's
PIPE = 65_536  # bytes, one for each signal, that a pipe takes before the next is lost
WATCHDOG = 0.8  # seconds past the deadline at which a process that cannot move is ended

_logger = logging.getLogger(__name__)


class Host(Protocol):
    """What is to be brought to its end: the runtime of this process."""

    def shutdown_timeout(self) -> float:
        """Return the seconds that a stop may take."""

    def finish(self, deadline: float, *, finally_: bool) -> None:
        """Finish accepted work until *deadline*; with *finally_*, refuse and discard what then is left."""

    def hurry(self) -> None:
        """Let a ``finish`` that is under way end now."""

    def is_idle(self) -> bool:
        """Return whether nothing is accepted and unfinished."""

    def is_at_work(self) -> bool:
        """Return whether a thread still performs a run, or what has been one."""

    def detach(self) -> Iterable[threading.Thread]:
        """Start no more threads that an exit would wait for, and return those there are."""

    def forked(self) -> None:
        """Start anew: this is the child of a fork."""


_host: Host | None = None
_began: float | None = None  # monotonic: the first sign of the stop
_left: float | None = None  # monotonic: when the first door was left
_signal: int | None = None  # what this process is to die of
_impatient = False  # whether the wait has been cut short
_watch = threading.RLock()  # guards the next, and is held while the process forks
_watch_deadline: float | None = None  # monotonic: when the watchdog strikes, if it stands by
_forked = False  # whether this process was forked from one that had imported this module
_pipe: tuple[int, int] | None = None  # into which the interpreter's C handler writes the number of each signal
_listening = False  # whether a thread has been told to read it
_listener: threading.Thread | None = None  # that thread
_door: object = None  # what the interpreter has made of the first door, among the hooks of its exit
_compared = False  # whether the server's grace period has been looked at


def register(host: Host) -> None:
    """Bring *host* to its end when the process ends; in place of the one before."""
    global _host
    _host = host


def meet_server() -> str | None:
    """Do at the first enqueue to a queue what the server around it asks for; return why there can be no jobs, if so."""
    watch_signals()
    _stay_in_front()
    if patched() and queue.SimpleQueue.__module__ == "_queue":  # C's own
        return "threads are patched but queues are not, and the first would stop all others: patch both, or neither"
    server = sys.modules.get("uwsgi")
    if server is not None:
        if not getattr(server, "has_threads", 1):
            return "uWSGI runs no threads: start it with --enable-threads (enable-threads = true) or --threads"
        _take_door(server)
    _compare_grace(server)
    return None


def _stay_in_front() -> None:
    """Have the first door open before the exit hooks that came meanwhile: of a process pool that jobs may use."""
    global _door
    hooks = getattr(threading, "_threading_atexits", None)
    if hooks and hooks[-1] is not _door:
        _register_door()


def _register_door() -> None:
    global _door
    getattr(threading, "_register_atexit", atexit.register)(_main_thread_ended)
    _door = getattr(threading, "_threading_atexits", [None])[-1]


def _take_door(uwsgi: Any) -> None:
    """Have uWSGI open the first door at its own exit; it may skip Python's (``skip-atexit-teardown``)."""
    theirs = getattr(uwsgi, "atexit", None)
    if getattr(theirs, "func", None) is not _uwsgi_exits:
        uwsgi.atexit = partial(_uwsgi_exits, theirs)
    native = importlib.import_module("inproc_jobs._native")
    for number in STOPS:  # in each process: a worker's handlers are not its master's
        native.block_during(number, STOPS)


def _uwsgi_exits(theirs: Callable[[], object] | None) -> None:
    """The third door, mostly in a signal handler of C's. Where it is not, a signal would exit within this exit."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    _finish(finally_=False)
    if theirs is not None:
        theirs()
    opt: Any = getattr(sys.modules.get("uwsgi"), "opt", {})
    if "skip-atexit-teardown" in opt:
        _interpreter_exits()


def _compare_grace(uwsgi: Any) -> None:
    """Say once that the server kills before our deadline, where it can be known."""
    global _compared
    if _compared or _host is None:
        return
    _compared = True
    ours = _host.shutdown_timeout()
    for name, grace in _grace_periods(uwsgi):
        if ours > grace:
            _logger.warning(
                "shutdown_timeout is %g s, but the server kills this process %g s after it has told it to stop:"
                " set %s to more than that, or shutdown_timeout to less",
                ours,
                grace,
                name,
            )


def _grace_periods(uwsgi: Any) -> Iterator[tuple[str, float]]:
    """Give the name of the server's setting and its seconds: of uWSGI; of gunicorn and granian, by their handlers."""
    mercy = getattr(uwsgi, "opt", {}).get("worker-reload-mercy")
    if mercy is not None:
        with suppress(TypeError, ValueError):
            yield "uWSGI's worker-reload-mercy", float(mercy)
    settings = getattr(getattr(signal.getsignal(signal.SIGUSR1), "__self__", None), "cfg", None)
    grace = getattr(settings, "graceful_timeout", None)
    if isinstance(grace, int | float):
        yield "gunicorn's graceful_timeout", grace
    master = getattr(signal.getsignal(signal.SIGHUP), "__self__", None)  # what a forked worker has left of it
    grace = getattr(master, "workers_kill_timeout", None)
    if isinstance(grace, int | float):
        yield "granian's workers_kill_timeout", grace


def watch_signals() -> None:
    """Catch those of SIGTERM and SIGINT that would end the process at once. Does nothing outside the main thread."""
    if "uwsgi" not in sys.modules:
        with suppress(ValueError):  # this is not the main thread; asked for by its object, eventlet has another one
            _watch_signals()


def _watch_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if handler is signal.SIG_DFL:
            with suppress(ImportError):  # this Python was built without ctypes
                importlib.import_module("inproc_jobs._native")  # to give it back; a stop has no time for a slow disk
            signal.signal(number, _on_signal)
        server: Any = getattr(handler, "__self__", None)
        if type(getattr(server, "_captured_signals", None)) is list:
            server._captured_signals = _Captured(server._captured_signals)
    if signal.getsignal(signal.SIGTERM) is _on_signal:
        _lay_pipe()


class _Captured(list[int]):
    """The signals that a uvicorn has caught, which it raises again when it has put back what it found."""

    def __reversed__(self) -> Iterator[int]:
        watch_signals()
        return super().__reversed__()


def _lay_pipe() -> None:
    global _pipe
    if _pipe is None:
        ends = os.pipe()
        os.set_blocking(ends[1], False)
        if _pipe is None:
            _pipe = ends
        else:  # laid meanwhile, by a signal's handler that has enqueued or by another thread
            for end in ends:
                os.close(end)
    previous = signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    if previous not in (-1, _pipe[1]):  # an event loop's, which then sees to it that the main thread wakes up
        signal.set_wakeup_fd(previous, warn_on_full_buffer=False)


def listen() -> None:
    """Have a thread act on signals, whatever the main thread is doing; ``deafen`` ends it."""
    global _listening
    if _pipe is None or patched():  # a greenlet that reads would stop all the others
        return
    if _listening:  # nothing is called from here to the next line: a signal's handler that enqueues would listen, too
        return
    _listening = True
    try:
        spawn(partial(_listen, *_pipe), "inproc_jobs-signals")
    except RuntimeError:  # no thread to be had: the main thread acts on signals, when it comes to it
        _listening = False


def deafen() -> None:
    """End the thread of ``listen``, and wait for it a moment."""
    global _listening, _listener
    if _pipe is None or not _listening:
        return
    listener, _listener = _listener, None  # from here on signals are the main thread's: the other may read no more
    os.write(_pipe[1], b"\0")
    _listening = False  # afterwards: who is cut short before tries again
    if listener is not None:
        join(listener, SAME_REQUEST)


def _listen(pipe: int, back: int) -> None:
    global _listener
    _listener = threading.current_thread()
    ends = 0
    try:
        while ends == 0:
            heard = os.read(pipe, PIPE)  # all: beside a busy thread, each read takes the interpreter's switch interval
            for number in heard:
                if number in (signal.SIGTERM, signal.SIGINT) and signal.getsignal(number) is _on_signal:
                    _stop_for(number)
            ends = heard.count(0)
        os.write(back, bytes(ends - 1))  # the other zeros are for the next listeners
    finally:
        _listener = None


def _on_signal(number: int, _: FrameType | None) -> None:
    """In the main thread, sooner or later after the signal."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_signal)  # a Ctrl-C is now about the wait
    if not _is_heard(number):
        _stop_for(number)


def _is_heard(number: int) -> bool:
    """Return whether the listener acts on this signal; it does not if a handler of another's has called ours."""
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    by_pipe = _listener is not None and _pipe is not None and descriptor == _pipe[1]
    return by_pipe and signal.getsignal(number) is _on_signal


def _stop_for(number: int) -> None:
    global _signal, _listener
    if _host is None or (_signal is None and _host.is_idle()):
        _die(number)
    elif _signal is None:
        _signal = number
        _note_stop()
        with suppress(RuntimeError):
            spawn(_finish_and_die, "inproc_jobs-stop")
            return
        _listener = None  # no thread is to be had: if this one is the listener, it cannot listen meanwhile
        _finish_and_die()
    elif number == signal.SIGINT:
        _grow_impatient(_host)


def _grow_impatient(host: Host) -> None:
    """Cut the wait short, unless this is the same request once more."""
    global _impatient
    if _clock.now() > _note_stop() + SAME_REQUEST:
        _impatient = True
        host.hurry()


def _note_stop() -> float:
    """Return when the first sign of the stop was seen, which is now if none was before.

    Not counted is the end of a main thread whose process has gone on, with threads that Python waits for.
    """
    global _began, _left
    if _began is None or (_left is not None and _clock.now() > _left + SAME_REQUEST):
        _began, _left = _clock.now(), None
    return _began


def _finish_and_die() -> None:
    _finish(finally_=True)
    if _signal is not None:
        _die(_signal)


def finish_early() -> None:
    """Finish accepted work before the host goes through a shutdown of its own; an exit then has the same clock."""
    global _left
    _finish(finally_=False)
    if _signal is None:
        _left = _clock.now()


def _main_thread_ended() -> None:
    """The first door."""
    global _left
    with _patience():
        _finish_at_door(finally_=_ends_without_atexit())
        joined: Any = getattr(concurrent.futures.thread, "_threads_queues", {})
        # Its own thread, too: in a child that an executor's thread has forked, it would be asked to join itself. And
        # gevent's threads, which the fork has copied and detach() does not know there.
        copied = filter(lambda thread: thread.name.startswith("inproc_jobs"), list(joined))
        for thread in (threading.current_thread(), *(_host.detach() if _host is not None else ()), *copied):
            joined.pop(thread, None)
        if _signal is None:
            _left = _clock.now()


def _ends_without_atexit() -> bool:
    """Return whether this is a forked child of multiprocessing: it opens the first door, then calls ``os._exit``."""
    process = sys.modules.get("multiprocessing.process")
    return _forked and process is not None and process.parent_process() is not None


def _interpreter_exits() -> None:
    """The second door."""
    with _patience():
        _finish_at_door(finally_=True)
        if _signal is not None:
            _die(_signal)


def _finish_at_door(*, finally_: bool) -> None:
    """Finish, whatever asks for the exit meanwhile: gevent raises in the main thread what ends a greenlet."""
    while True:
        try:
            return _finish(finally_=finally_)
        except SystemExit:
            continue


def _finish(*, finally_: bool) -> None:
    host = _host
    if host is None:
        return
    deadline = _note_stop() + host.shutdown_timeout()
    with _watchdog(host, deadline, finally_=finally_):
        host.finish(_clock.now() if _impatient else deadline, finally_=finally_)


@contextmanager
def _patience() -> Iterator[None]:
    """Let no handler written in Python raise into the wait at a door: neither Python's own nor one of a server's.

    The server has returned from its loop: its handlers have nothing left to say but ``sys.exit``.
    """
    theirs: dict[int, Any] = {}
    if _host is not None and not _host.is_idle():
        watch_signals()  # an event loop that had handlers of its own has left the system's default behind
    with suppress(ValueError):  # this is not the main thread
        for number in () if "uwsgi" in sys.modules else STOPS:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not _on_signal:
                signal.signal(number, _on_signal_at_door)
                theirs[number] = handler
    try:
        yield
    finally:
        for taken, handler in theirs.items():
            signal.signal(taken, handler)


def _on_signal_at_door(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT and _host is not None:
        _grow_impatient(_host)


@contextmanager
def _watchdog(host: Host, deadline: float, *, finally_: bool) -> Iterator[None]:
    """End the process if it is stuck a while after *deadline*, whatever holds the interpreter's lock."""
    if (host.is_idle() and not host.is_at_work()) or sys.__stderr__ is None:
        yield
        return
    _set_watchdog(deadline + WATCHDOG)
    try:
        yield
    finally:
        # A job that hangs may still take the lock for ever, until the process is gone. But a main thread that leaves
        # others behind, which Python waits for, is no end yet.
        if not host.is_at_work() or (not finally_ and _others_go_on()):
            _set_watchdog(None)


def _set_watchdog(deadline: float | None) -> None:
    """Have the watchdog strike at *deadline* (monotonic), or not at all if that is None."""
    global _watch_deadline
    with _watch:
        _watch_deadline = deadline
        trouble = _arm()
    if trouble:
        _logger.debug("no watchdog: %s", trouble)


def _arm() -> str:
    """Set the watchdog as noted, and return why it cannot be; called under the lock, where nothing is logged."""
    if _watch_deadline is None or sys.__stderr__ is None:
        faulthandler.cancel_dump_traceback_later()
        return ""
    try:
        faulthandler.dump_traceback_later(max(0.1, _watch_deadline - _clock.now()), exit=True, file=sys.__stderr__)
    except (ValueError, OSError, AttributeError, RuntimeError) as error:  # standard error is no file, or closed
        return _report.describe(error)
    return ""


def _others_go_on() -> bool:
    return any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate())


def _die(number: int) -> None:
    """Die of signal *number*, by its default action."""
    _flush()
    if os.getpid() == 1 or not _restore_default(number):
        os._exit(128 + number)
    os.kill(os.getpid(), number)
    threading.Event().wait(1.0)  # the signal may be delivered to another thread
    os._exit(128 + number)


def _restore_default(number: int) -> bool:
    """Give signal *number* its default action; return whether this thread could."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL)
        return True
    native = sys.modules.get("inproc_jobs._native")
    if native is None:
        return False
    native.restore_default(number)
    return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            _report.guarded(stream.flush)


def leave_child() -> None:
    """End a child that was forked inside a job, now that the job has returned there: it is no worker."""
    _flush()
    os._exit(0)


def _before_fork() -> None:
    """Call the watchdog off: in the child, Python's exit would wait for ever for its thread, which is not there."""
    _watch.acquire()
    if _watch_deadline is not None:
        faulthandler.cancel_dump_traceback_later()


def _after_fork_here() -> None:
    try:
        if _watch_deadline is not None:
            _arm()  # if that cannot be, it has been said
    finally:
        _watch.release()


def _after_fork() -> None:
    global _began, _left, _signal, _impatient, _forked, _pipe, _listening, _listener, _watch, _watch_deadline
    _watch = threading.RLock()
    _watch_deadline = None
    _began = _left = _signal = _listener = None
    _impatient = _listening = False
    _forked = True
    if _pipe is not None:  # the parent's: what this process wrote into it would stop the parent
        signal.set_wakeup_fd(-1)
        for end in _pipe:
            os.close(end)
        _pipe = None
    if _host is not None:
        _host.forked()


atexit.register(_interpreter_exits)
_register_door()
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork)

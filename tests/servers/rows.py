"""The configurations of servers: one row of the table each."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import sysconfig
from pathlib import Path

from live import Row

ROOT = Path(__file__).resolve().parents[2]

TERM, QUIT, HUP, INT = signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGINT


# A worker in which nothing of Python's can run any more is killed by its master, when a setting of the server's says so.
STUCK: dict[str, object] = {"columns": ("stuck",), "only": ("stuck",)}


COPIES = "a fork copies the greenlets of other jobs, which go on in the child and may end it"
NO_LATE_FORK = "up to Python 3.12.2 no process forks once its main thread has ended (python/cpython#113964)"
# Its gevent worker has a greenlet call sys.exit for each SIGINT and SIGQUIT: the second may meet gevent's own shutdown.
EXITS = r"(?:Exception ignored.*\n)?Traceback.*\n(?:\n|  .*\n|\[20.*\n)*SystemExit: 0\n(?:.*failed with SystemExit\n)?"


def gunicorn(name: str, kind: str, *arguments: str, app: str = "wsgi:app", **more: object) -> Row:
    command = ("{python}", "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", kind, *arguments, app)
    needs = ("gunicorn", *{"gevent": ("gevent",), "uvicorn_worker.UvicornWorker": ("uvicorn_worker",)}.get(kind, ()))
    # A worker that has just been forked and has no handlers of its own yet ignores a signal: gunicorn then waits 30 s.
    both: dict[str, object] = {"ready": ("Booting worker", 2), "settles": 0.8} if "--workers" in arguments else {}
    known = {INT: "stop", QUIT: "stop", HUP: "reload"}
    noise = EXITS if kind == "gevent" else ""
    if kind == "gevent":
        more["limits"] = {"fork": COPIES, **({"hup": STAYS} if "--preload" in arguments else {})}
    elif (3, 12) <= sys.version_info < (3, 12, 3):
        more["limits"] = {"fork": NO_LATE_FORK, **more.get("limits", {})}  # type: ignore[dict-item]
    return Row(f"gunicorn {name}", command, needs, **{"signals": known, "looks": 0.1, "noise": noise, **both, **more})  # type: ignore[arg-type]


UVICORN_WORKER = "uvicorn_worker.UvicornWorker"
NO_QUIT = "uvicorn's worker ignores the SIGQUIT that gunicorn sends it (Kludex/uvicorn-worker#2)"
NO_QUITS = {"int": NO_QUIT, "quit": NO_QUIT}
MAX = ("--max-requests", "3")
# ThreadWorker.handle_quit calls ThreadPoolExecutor.shutdown, whose lock is not reentrant: the group's SIGINT and the
# master's SIGQUIT meet in it. The worker's main thread waits for itself until gunicorn's SIGKILL; our jobs are done.
TWO_QUITS = "its handler of SIGINT and SIGQUIT waits for ever for its thread pool's lock if it interrupts itself"
STAYS = (
    "a worker forked by --preload now and then stays in gevent's hub (10 of 12 reloads without us, on a busy machine)"
)
RESETS = "a worker that has had its --max-requests resets connections it has not read from (2 of 60 without us)"

GUNICORN = [
    gunicorn("sync", "sync"),
    gunicorn("sync 2", "sync", "--workers", "2"),
    gunicorn("sync 2 preload", "sync", "--workers", "2", "--preload"),
    gunicorn("gthread", "gthread", "--threads", "4", now_and_then=TWO_QUITS),
    gunicorn("gthread 2", "gthread", "--threads", "4", "--workers", "2", now_and_then=TWO_QUITS),
    gunicorn("gthread 2 preload", "gthread", "--threads", "4", "--workers", "2", "--preload", now_and_then=TWO_QUITS),
    gunicorn("gevent", "gevent"),
    gunicorn("gevent 2 preload", "gevent", "--workers", "2", "--preload", now_and_then=STAYS),
    gunicorn("asgi", "asgi", app="asgi:app"),
    gunicorn("asgi 2 preload", "asgi", "--workers", "2", "--preload", app="asgi:app"),
    gunicorn("uvicorn", UVICORN_WORKER, app="asgi:app", limits=NO_QUITS),
    gunicorn("uvicorn 2 preload", UVICORN_WORKER, "--workers", "2", "--preload", app="asgi:app", limits=NO_QUITS),
    gunicorn("sync max-requests", "sync", *MAX, columns=("retire",)),
    gunicorn("gthread max-requests", "gthread", "--threads", "4", *MAX, columns=("retire",), now_and_then=TWO_QUITS),
    gunicorn("gevent max-requests", "gevent", *MAX, columns=("retire",)),
    gunicorn("asgi max-requests", "asgi", *MAX, app="asgi:app", columns=("retire",)),
    gunicorn(
        "uvicorn max-requests",
        UVICORN_WORKER,
        *MAX,
        app="asgi:app",
        columns=("retire",),
        limits=NO_QUITS,
        now_and_then=RESETS,
    ),
    gunicorn("sync reload", "sync", "--reload", columns=("touch",)),
    gunicorn("gthread reload", "gthread", "--threads", "4", "--reload", columns=("touch",), now_and_then=TWO_QUITS),
    gunicorn("asgi reload", "asgi", "--reload", app="asgi:app", columns=("touch",)),
    gunicorn("sync timeout", "sync", "--timeout", "1", columns=("timeout",)),
    gunicorn("sync grace", "sync", "--graceful-timeout", "2", **STUCK),
]


def uvicorn(name: str, *arguments: str, app: str = "asgi:app", **more: object) -> Row:
    command = ("{python}", "-m", "uvicorn", "--port", "{port}", *arguments, app)
    return Row(f"uvicorn {name}".strip(), command, ("uvicorn",), **more)  # type: ignore[arg-type]


UVICORN = [
    uvicorn(""),
    uvicorn("lifespan", environment={"LIFESPAN": "yes"}),
    uvicorn("2", "--workers", "2", signals={HUP: "reload"}, ready=("startup complete", 2)),
    uvicorn("reload", "--reload", columns=("touch",)),
    uvicorn("django", app="manage:asgi"),
    uvicorn("uvloop", "--loop", "uvloop", "--http", "httptools"),
]


def console(name: str, *command: str, **more: object) -> Row:
    # A main thread that is about to block in C when SIGINT comes raises KeyboardInterrupt only afterwards.
    usual: dict[str, object] = {"console": "pipe", "columns": ("end",), "settles": 0.1}
    return Row(name, ("{python}", *command), **{**usual, **more})  # type: ignore[arg-type]


CONSOLES = [
    console("script", "console.py"),
    console("script -c", "-c", "from console import main; main()"),
    console("script command", "manage.py", "work", needs=("django",)),
    console("script shell", "-q", "-i", console="terminal", environment={"TERM": "dumb"}),
    console("script pytest", "-m", "pytest", "-q", "-s", "-c", os.devnull, "-p", "no:logging", "check_console.py"),
    *(
        console(
            f"{by} {when}",
            "console.py",
            needs=(by,),
            environment={variable: by, "PYTHONWARNINGS": "ignore"},
            limits={"fork": COPIES},
        )
        for by in ("gevent", "eventlet")
        for when, variable in (("before", "PATCH"), ("after", "PATCH_LATE"))
    ),
]


SERVES = ("--http-socket", "127.0.0.1:{port}", "--wsgi", "wsgi", "--need-app")


def uwsgi(name: str, *arguments: str, **more: object) -> Row:
    return Row(f"uwsgi {name}", ("{bin}/uwsgi", *SERVES, *arguments), ("uwsgi",), **more)  # type: ignore[arg-type]


def debian(name: str, *arguments: str, **more: object) -> Row:
    """A row of Debian's uWSGI, which is built for Debian's Python; ours has to be the same version."""
    plugin = f"python{sys.version_info[0]}{sys.version_info[1]}"
    paths = ("--pythonpath", sysconfig.get_path("purelib"), "--pythonpath", str(ROOT))
    return Row(
        f"uwsgi debian {name}",
        ("/usr/bin/uwsgi", "--plugin", plugin, *SERVES, *paths, *arguments),
        (f"/usr/lib/uwsgi/plugins/{plugin}_plugin.so",),
        **more,  # type: ignore[arg-type]
    )


MASTER = ("--master", "--stats", "127.0.0.1:{stats}")  # only a master tells
THREADS = (*MASTER, "--enable-threads", "--threads", "4")
DIES = ("--die-on-term", *THREADS)
BUSY = "a worker that is busy with a request at SIGTERM is killed without any of Python's exit hooks"
GRACEFUL = ("--hook-master-start", "unix_signal:15 gracefully_kill_them_all", *THREADS)
KNOWN = {INT: "stop", QUIT: "reload", HUP: "reload"}
FORKED = "up to Python 3.12 a child that multiprocessing forks in a thread of uWSGI's fails an assertion of threading's"
NO_FORK = {} if sys.version_info >= (3, 13) else {"fork": FORKED}
UNFIT = {"late": BUSY, **NO_FORK}
UWSGI_LIKE: dict[str, object] = {"counts": True, "limits": UNFIT, "columns": ("locked",)}
ALONE: dict[str, object] = {**UWSGI_LIKE, "counts": False, "settles": 0.2}
LAZY = ("--processes", "2", "--lazy-apps")

UWSGI = [
    uwsgi("die-on-term", *DIES, signals=KNOWN, **UWSGI_LIKE),
    uwsgi("enable-threads", *MASTER, "--die-on-term", "--enable-threads", signals=KNOWN, **UWSGI_LIKE),
    uwsgi("no master", "--die-on-term", "--threads", "4", signals={INT: "stop"}, **ALONE),
    uwsgi("term reloads", *THREADS, stop=INT, signals={QUIT: "stop", TERM: "reload", HUP: "reload"}, **UWSGI_LIKE),
    # Not "locked": a worker that leaves by its loop, not by a handler, has nothing that would have a second signal wait.
    uwsgi("graceful", *GRACEFUL, signals={INT: "stop", HUP: "reload"}, counts=True, limits=NO_FORK),
    uwsgi("2 lazy", *DIES, *LAZY, signals=KNOWN, ready=("WSGI app 0", 2), **UWSGI_LIKE),
    uwsgi("2 prefork", *DIES, "--processes", "2", signals=KNOWN, **UWSGI_LIKE),
    uwsgi("max-requests", *DIES, *MAX, "--min-worker-lifetime", "0", **{**UWSGI_LIKE, "columns": ("locked", "retire")}),
    uwsgi("skip teardown", *DIES, "--skip-atexit-teardown", **UWSGI_LIKE),
    uwsgi("mercy", *DIES, "--worker-reload-mercy", "2", **STUCK),
    debian("threads", *DIES, signals=KNOWN, **UWSGI_LIKE),
    debian("2 lazy", *DIES, *LAZY, signals=KNOWN, ready=("WSGI app 0", 2), **UWSGI_LIKE),
    debian("no threads", "--master", "--die-on-term", columns=("refused",), only=("refused",)),
]

FLASK = ("{python}", "-m", "flask", "--app", "wsgi", "run", "--port", "{port}")
DJANGO = ("{python}", "manage.py", "runserver", "{port}")
STOPS = ("term", "int", "hung", "native", "late", "chain", "twice", "group", "group int", "fork")
KILLED = dict.fromkeys(STOPS, "its parent, which only watches, kills the child with SIGKILL or leaves it behind")

BOTH = ("slow", "new")  # without us SIGTERM ends them at once

DEVELOPMENT = [
    Row("flask run", FLASK, ("flask",), answers=BOTH),
    Row("flask run reload", (*FLASK, "--reload"), ("flask",), columns=("touch",), limits=KILLED),
    Row("flask app.run", ("{python}", "wsgi.py"), ("flask",), answers=BOTH),
    Row(
        "flask app.run reload",
        ("{python}", "wsgi.py"),
        ("flask",),
        {"RELOAD": "yes"},
        columns=("touch",),
        limits=KILLED,
    ),
    Row("django runserver", (*DJANGO, "--noreload"), ("django",), answers=BOTH),
    Row("django runserver reload", DJANGO, ("django",), columns=("touch",), limits=KILLED),
    Row("wsgiref", ("{python}", "wsgiref_server.py"), ("flask",), answers=BOTH),
]

MOD_WSGI = (
    *(
        "{bin}/mod_wsgi-express",
        "start-server",
        "wsgi.py",
        "--port",
        "{port}",
        "--host",
        "127.0.0.1",
        "--log-to-terminal",
    ),
    *("--server-root", "{place}/apache"),
)

NO_CHILDREN = {"fork": "its workers are daemonic processes of multiprocessing, which may have no children"}
LOSES = (
    "its main thread waits for a lock and never calls its handler, if a thread that is just starting takes the signal"
)
# At a signal to the process group its status is 1 if it sees its worker's end before the signal, else 0: its watcher of
# the worker takes that for an unexpected exit (2 of 20 stops without us). With jobs to finish its worker ends later.
GRANIAN_LIKE: dict[str, object] = {"signals": {HUP: "reload"}, "turns": (0, 1)}
BUSY_LOOP = "its worker now and then hangs at SIGTERM while its event loop is busy (emmett-framework/granian#875)"


def hypercorn(name: str, *arguments: str) -> Row:
    command = ("{python}", "-m", "hypercorn", "-b", "127.0.0.1:{port}", *arguments, "asgi:app")
    return Row(f"hypercorn {name}".strip(), command, ("hypercorn",), limits=NO_CHILDREN)


def granian(name: str, interface: str, *arguments: str, **more: object) -> Row:
    command = ("{python}", "-m", "granian", "--port", "{port}", "--interface", interface, *arguments)
    return Row(f"granian {name}", command, ("granian",), **more)  # type: ignore[arg-type]


OTHERS = [
    Row("waitress", ("{python}", "-m", "waitress", "--port", "{port}", "wsgi:app"), ("waitress",), answers=BOTH),
    hypercorn(""),
    hypercorn("2", "-w", "2"),
    granian("wsgi", "wsgi", "wsgi:app", now_and_then=LOSES, **GRANIAN_LIKE),
    granian("asgi", "asgi", "asgi:app", now_and_then=BUSY_LOOP, **GRANIAN_LIKE),
    granian("kill", "wsgi", "--workers-kill-timeout", "2", "wsgi:app", **STUCK),
    Row("mod_wsgi", MOD_WSGI, ("mod_wsgi", "a user but root"), answers=(), looks=2.0),
]

ROWS = [*GUNICORN, *UVICORN, *CONSOLES, *UWSGI, *DEVELOPMENT, *OTHERS]


def missing(row: Row) -> str | None:
    """Return what *row* needs and is not here: a module, a program beside this Python, a file, or not to be root."""
    for name in row.needs:
        if name == "a user but root":
            if os.geteuid():
                continue
            return name
        there = (Path(sys.executable).parent / name).exists()
        if not there and ("/" in name or importlib.util.find_spec(name) is None):
            return name
    return None

"""The names that ``_lifecycle`` takes from others without their leave: a new version that moves one is noticed here."""

from __future__ import annotations

import ast
import concurrent.futures.thread
import ctypes
import importlib
import inspect
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import BuiltinFunctionType

import pytest

import inproc_jobs

PACKAGE = Path(inproc_jobs.__file__).parent
PUBLIC = {"_exit"}  # of os: documented, for all its name
UVICORN = {"_captured_signals"}


def test_exit_callbacks_of_threading_are_called_before_threads_are_joined():
    """``threading._register_atexit`` is there, and what it is given runs while a thread can still be started."""
    code = """
    import concurrent.futures.thread, threading

    def at_exit():
        thread = threading.Thread(target=print, args=("started",))
        thread.start()
        thread.join()

    threading._register_atexit(at_exit)
    threading.Thread(target=threading.Event().wait, args=(0.1,)).start()
    """
    if (3, 12) <= sys.version_info < (3, 12, 3):
        pytest.skip("starts no thread once the main one has ended (python/cpython#113964)")

    ended = subprocess.run([sys.executable, "-c", inspect.cleandoc(code)], capture_output=True, text=True, timeout=30)

    assert (ended.stdout, ended.stderr) == ("started\n", "")


def test_executors_register_their_threads_where_we_take_them_out():
    """``concurrent.futures.thread._threads_queues`` holds the threads that the interpreter's exit joins."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        thread = executor.submit(threading.current_thread).result(10)

        assert thread in concurrent.futures.thread._threads_queues  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["PyOS_setsig", "PyThreadState_SetAsyncExc", "sigaction", "sigaddset"])
def test_the_functions_of_c_are_there(name: str):
    """What Python has no function for is called in the interpreter's C library."""
    assert getattr(ctypes.pythonapi, name)


def test_threads_are_started_by_a_function_of_c_unless_patched():
    """That is how a process patched by gevent or eventlet is told from another."""
    threads = importlib.import_module("_thread")

    assert isinstance(threads.start_new_thread, BuiltinFunctionType)
    assert queue.SimpleQueue.__module__ == "_queue"


def test_uvicorn_keeps_the_signals_that_it_raises_again_in_a_list():
    """``Server.handle_exit`` appends to ``_captured_signals``, which is read in reverse when the handlers are put back."""
    server_module = pytest.importorskip("uvicorn.server")
    config = importlib.import_module("uvicorn").Config("app:app")

    server = server_module.Server(config)
    server.handle_exit(signal.SIGTERM, None)

    assert server._captured_signals == [signal.SIGTERM]
    assert type(server._captured_signals) is list
    assert "reversed(self._captured_signals)" in inspect.getsource(server_module.Server.capture_signals)


def test_gunicorn_handles_a_signal_by_an_object_with_its_settings():
    """A worker's handler of SIGUSR1 leads to ``graceful_timeout``."""
    base = pytest.importorskip("gunicorn.workers.base")
    config = importlib.import_module("gunicorn.config").Config()

    worker = base.Worker(0, 0, [], None, 30, config, importlib.import_module("gunicorn.glogging").Logger(config))
    worker.tmp.close()

    assert worker.handle_usr1.__self__.cfg.graceful_timeout == 30


def test_the_exit_hooks_of_threading_are_in_a_list_of_which_the_last_runs_first():
    """``threading._threading_atexits`` shows whether another's hook has come after ours, and would run before it."""
    code = """
    import threading

    threading._register_atexit(print, "first")
    first = threading._threading_atexits[-1]
    threading._register_atexit(print, "last")
    print(first is not threading._threading_atexits[-1], first in threading._threading_atexits)
    """

    ended = subprocess.run([sys.executable, "-c", inspect.cleandoc(code)], capture_output=True, text=True, timeout=30)

    assert (ended.stdout, ended.stderr) == ("True True\nlast\nfirst\n", "")


def test_the_list_of_private_names_is_complete():
    """``_lifecycle`` names in its docstring each private name of CPython that it touches, and no other."""
    tree = ast.parse((PACKAGE / "_lifecycle.py").read_text())
    told = (ast.get_docstring(tree) or "").partition("Private names of CPython")[2]

    touched = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr"
        if isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str)
    }

    private = {name for name in touched if re.fullmatch("_[a-z].*", name)} - PUBLIC - UVICORN
    assert private == set(re.findall(r"\b_[a-z]\w*", told))

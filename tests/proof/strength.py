"""How strong the suite is: which branches of the engine it reaches, and which changes of the engine it notices.

``python tests/proof/strength.py --coverage`` runs the tests under branch coverage, with every process they start, prints
the table and fails under 100 %.

``python tests/proof/strength.py --mutants _timer [--sample N] [--skip N] [--match EXPRESSION]`` changes one module in one
place at a time and runs the tests that reach the place, those of the module first. A mutant that no test notices is printed
as a diff; one that ``survivors.txt`` explains is not tried. Locks are not taken away: what they are for is shown by
``schedules.py``.

Both leave the tree alone: the package is copied. Mutants need Python 3.12, for ``sys.monitoring``.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import importlib
import json
import os
import queue
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
EXPLAINED = Path(__file__).with_name("survivors.txt")
BUDGET = 45.0  # seconds of tests that a mutant is given at most, the own tests of the module and the fast ones first
FIRST = 15  # tests that are asked before the others: to collect hundreds takes longer than to run those that notice
SLOWEST = 6.0  # seconds; a test that takes longer is not asked about mutants
HANG = 6.0  # seconds past three times the usual after which a test hangs, which counts as noticed
MEMORY = 4 << 30  # bytes of address space of a mutant
MARK = "STRENGTH_MARK"  # the variable by which the processes of one run of tests are known

# The tests that show what the engine does; those under stress, of the servers, the docs and the package need it to work,
# too, but take long to say so.
SUITE = ("unit", "integration")


# Where the processes of the tests run.


class Place:
    """A folder with a copy of the package, for processes that find it before the one that is installed."""

    def __init__(self, folder: Path, customize: str) -> None:
        self.folder = folder
        self.package = folder / "inproc_jobs"
        self._server: subprocess.Popen[str] | None = None
        self._words = tempfile.TemporaryFile("w+", errors="replace")  # what pytest says
        self._surroundings = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parent))),
            "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode"),
        }
        self._surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
        shutil.copytree(ROOT / "inproc_jobs", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "sitecustomize.py").write_text(textwrap.dedent(customize))
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", str(self.package)], env=self._surroundings, check=True
        )

    def pytest(self, *arguments: str, **environment: str) -> str:
        """Run pytest here and return what it said."""
        with _marked(self._surroundings | environment) as surroundings:
            command = [sys.executable, "-m", "pytest", *_PLAIN, *arguments]
            subprocess.run(
                command,
                cwd=self.folder,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=subprocess.STDOUT,
                timeout=3600,
            )
        return self._said()

    def ask(self, *arguments: str, limits: dict[str, float]) -> tuple[int | None, str]:
        """Run the tests of *limits* here, each for so many seconds at most, in a process that has loaded pytest.

        Return its exit code, None if even all that was not enough.
        """
        server = self._server or self._serve()
        assert server.stdin is not None
        assert server.stdout is not None
        with _marked({}) as environment:
            tests = [str(ROOT / test) for test in limits]
            request = {"arguments": [*_PLAIN, *arguments, *tests], "environment": environment, "limits": limits}
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            code = json.loads(server.stdout.readline())
        return code, self._said()

    def _serve(self) -> subprocess.Popen[str]:
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            cwd=self.folder,
            env={**self._surroundings, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
        )
        return self._server

    def _said(self) -> str:
        self._words.seek(0)
        said = self._words.read()
        self._words.seek(0)
        self._words.truncate()
        return said

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.communicate()
        self._words.close()


_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "-p", "no:anyio")
_PLAIN = ("-q", *_WITHOUT, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"))


@contextmanager
def _marked(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Put a mark on the processes that a run of tests starts, and end those that it leaves."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    try:
        yield {**environment, MARK: mark}
    finally:
        wanted = f"{MARK}={mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)


# What the children would load each anew.
_PRELOADED = (
    "asyncio",
    "blinker",
    "flask",
    "multiprocessing.connection",
    "pdb",
    "tomllib",
    "unittest.mock",
    "zoneinfo",
)


class _Limits:
    """Has pytest end with the first test that takes longer than it may."""

    def __init__(self, limits: dict[str, float]) -> None:
        self._limits = limits

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.add_marker(pytest.mark.timeout(self._limits[item.nodeid], method="thread"), append=False)


def serve() -> int:
    """Run pytest in a child for each request of standard input."""
    for module in _PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.environ |= request["environment"]
            sys.path[0] = os.getcwd()  # as python -m has it
            code = 3
            try:
                code = int(pytest.main(request["arguments"], plugins=[_Limits(request["limits"])]))
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        handle = os.pidfd_open(child)
        in_time, _, _ = select.select([handle], [], [], sum(request["limits"].values()))
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(handle)
        print(os.waitstatus_to_exitcode(status) if in_time else "null", flush=True)
    return 0


# Coverage.

# A process that dies of a signal or by os._exit has its data written first: the engine does both through ``os``. The
# handler that coverage itself offers would not do, for the engine looks at who handles SIGTERM. Nor would its lock, which
# stays held where a signal handler or an interrupted job enqueues in the middle of it; it is there for Pythons without
# the GIL. And a test that has traced new threads gives them back.
COVER = """
    import os
    import sys
    import threading

    try:
        import coverage.collector
    except ImportError:  # an environment that a test has made for an example: to Python, as if this file was not there
        raise ImportError(name="sitecustomize") from None

    def measured():
        running = coverage.Coverage.current()
        if running is not None:
            running.stop()
            running.save()

    def exit(status, exit=os._exit):
        measured()
        exit(status)

    def kill(process, number, kill=os.kill):
        if sys._getframe(1).f_globals.get("__name__") == "inproc_jobs._lifecycle":
            measured()
        kill(process, number)

    coverage.collector.Collector.lock_data = coverage.collector.Collector.unlock_data = lambda collector: None
    coverage.process_startup()
    os._exit, os.kill = exit, kill

    def settrace(function, settrace=threading.settrace, measuring=threading.gettrace()):
        settrace(function or measuring)

    threading.settrace = settrace
"""


def cover(arguments: list[str]) -> int:
    """Print how much of the engine's branches the suite reaches, and return 0 if that is all."""
    with tempfile.TemporaryDirectory(prefix="strength-") as name:
        place = Place(Path(name) / "one", COVER)
        settings = Path(name) / "coveragerc"
        settings.write_text(_coverage_settings(place, Path(name) / "data" / "coverage"))
        (Path(name) / "data").mkdir()
        chosen = _paths(arguments)
        said = place.pytest("-m", "not whole", *chosen, COVERAGE_PROCESS_START=str(settings))
        place.close()
        print("\n".join(said.splitlines()[-25:]), flush=True)
        covered = 0
        for command in (("combine", "-q"), ("report",)):
            covered = subprocess.run(
                [sys.executable, "-m", "coverage", *command, f"--rcfile={settings}"], cwd=place.folder
            ).returncode
        return covered


# The floors above the engine: what lists its names, the modes for tests, the frameworks.
ABOVE = ("__init__", "types", "_listing", "_modes", "testing", "pytest_plugin", "flask", "asgi", "django/**/*")


# What is for type checkers alone, cannot happen, or cannot be seen by the measurement.
UNREACHED = (
    r"@overload",
    r"class .*\(Protocol",
    r"if host is None:",  # of _finish: the package registers its host as it is imported
    r"threading\.Event\(\)\.wait\(1\.0\)",  # of _die: the process has died of its signal by then
    r"os\._exit\(128 \+ number\)",
    r"main\(\)  # not where",  # of _begin: a thread that threading has not made is not traced
    r"if not hasattr\(run, \"_open\"\):",  # of perform: its test traces the worker's thread itself
    r"if self\._stopped:  # in between",  # of _start_threads: a stop between two of its lines; schedules.py goes there
    r"def last_words",  # after the last callback of the exit, when coverage has written its data
)
UNBRANCHED = (
    r"if _host is not None:",  # of _after_fork: as above
    r"if _signal is not None:",  # of _finish_and_die: it is called because of one
    # Of _join_shutdown: the end of the other shutdown takes its deadline away as well, so that the second look is the last.
    r"while self\._stopping:",
    r"if _clock\.now\(\) > self\._deadline \+ 1\.0:",
)


def _coverage_settings(place: Place, data: Path) -> str:
    """Return what coverage is to look at, in a copy of the package."""
    return "\n".join(
        (
            "[run]",
            "branch = true",
            "parallel = true",
            f"source = {place.package}",
            f"data_file = {data}",
            "[report]",
            "fail_under = 100",
            "precision = 1",
            "show_missing = true",
            "omit =",
            *(f"    {place.package}/{module}.py" for module in ABOVE),
            "exclude_also =",
            *(f"    {expression}" for expression in UNREACHED),
            "partial_also =",
            *(f"    {expression}" for expression in UNBRANCHED),
        )
    )


# Mutants.


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes:
        lines: of the module, the first and the last that the change touches.
        inside: whether it is inside a function; outside, it takes effect on import.
        diff: what it changes.
        key: where it is and the first line that it changes, before and after, as ``survivors.txt`` knows it.
        source: the module with the change.
    """

    lines: range
    inside: bool
    diff: str
    key: str
    source: bytes


SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NEGATED_BY_SWAP = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


class Mutator(ast.NodeVisitor):
    """Collects the changes of one module."""

    def __init__(self, name: str, source: bytes) -> None:
        self.mutants: list[Mutant] = []
        self._name = name
        self._source = source
        self._lines = source.decode().splitlines()
        self._starts = [0]  # of the lines, in bytes
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._inside: list[str] = []  # the names of classes and functions around
        self._functions = 0
        self._statement: ast.stmt | None = None
        self._seen = {source}
        self.visit(ast.parse(source))

    def _replace(self, node: ast.stmt | ast.expr, text: str) -> None:
        """Note the mutant that has *text* in place of *node*."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first = self._starts[node.lineno - 1] + node.col_offset
        last = self._starts[node.end_lineno - 1] + node.end_col_offset
        source = self._source[:first] + text.encode() + self._source[last:]
        if source in self._seen:
            return
        self._seen.add(source)
        before, after = self._lines, source.decode().splitlines()
        changed = next(number for number in range(node.lineno - 1, len(before)) if before[number] != after[number])
        gone, come = (re.sub("  # .*", "", lines[changed]).strip() for lines in (before, after))
        key = f"{'.'.join(self._inside) or 'at import'}: {gone} -> {come}"
        top, end = max(0, node.lineno - 3), node.end_lineno + 2
        around = difflib.unified_diff(before[top:end], after[top : end + len(after) - len(before)], n=2, lineterm="")
        diff = [f"{self._name}.py, line {changed + 1}", *list(around)[3:]]
        start = self._statement.lineno if self._statement is not None else node.lineno
        lines = range(start, node.end_lineno + 1)
        self.mutants.append(Mutant(lines, self._functions > 0, "\n".join(diff), key, source))

    def _change(self, node: ast.expr, **fields: object) -> None:
        """Note the mutant that has other *fields* in *node*."""
        changed = copy.copy(node)
        for name, value in fields.items():
            setattr(changed, name, value)
        self._replace(node, f"({ast.unparse(changed)})" if isinstance(node, _LOOSE) else ast.unparse(changed))

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self._statement, before = node, self._statement
            if not _is_declaration(node):
                self._drop(node)
                super().visit(node)
            self._statement = before
        else:
            super().visit(node)

    def _drop(self, node: ast.stmt) -> None:
        """Note the mutants that do without *node*, or without what it gives."""
        if not self._functions:
            return
        if isinstance(node, ast.Return) and node.value is not None:
            self._replace(node, "return None")
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                self._replace(node.value, "None")
            else:
                self._replace(node, "pass")
        elif isinstance(node, ast.Expr | ast.AugAssign | ast.Delete | ast.Raise | ast.Break | ast.Continue):
            self._replace(node, "pass")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            self._inside.append(node.name)
            for part in node.body:
                self.visit(part)
            self._inside.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list):
            return
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._inside.append(node.name)
        self._functions += 1
        for part in node.body:
            self.visit(part)
        self._functions -= 1
        self._inside.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815 - names of ast

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        changed = copy.copy(node)
        changed.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        self._replace(node, ast.unparse(changed))
        self.visit(node.value)

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If  # noqa: N815

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for one in node.ifs:
            self._negate(one)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        swapped = isinstance(test, ast.Compare) and isinstance(test.ops[0], NEGATED_BY_SWAP)
        if not swapped and not isinstance(test, ast.Constant | ast.UnaryOp | ast.NamedExpr):
            self._replace(
                test, f"(not {ast.unparse(test)})" if not isinstance(test, _LOOSE) else f"not ({ast.unparse(test)})"
            )

    def visit_Compare(self, node: ast.Compare) -> None:
        for place, operator in enumerate(node.ops):
            self._change(node, ops=[*node.ops[:place], SWAPS[type(operator)](), *node.ops[place + 1 :]])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._change(node, op=SWAPS[type(node.op)]())
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in SWAPS:
            self._change(node, op=SWAPS[type(node.op)]())
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub):
            self._replace(node, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self._replace(node, repr(node.value + 1))
        elif isinstance(node.value, str | bytes) and node.value:
            self._replace(node, repr(node.value[:0]))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._replace(node, '""')
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def visit_Call(self, node: ast.Call) -> None:
        for value in node.args:
            if not isinstance(value, ast.Constant | ast.Starred | ast.GeneratorExp):
                self._replace(value, "None")
        for place, keyword in enumerate(node.keywords):
            if keyword.arg is not None and not isinstance(keyword.value, ast.Constant):
                self._change(node, keywords=node.keywords[:place] + node.keywords[place + 1 :])
        self.generic_visit(node)


_LOOSE = (ast.BoolOp, ast.Compare, ast.BinOp, ast.IfExp, ast.UnaryOp)  # which need brackets around them


def _is_declaration(node: ast.stmt) -> bool:
    """Return whether *node* says nothing that could go wrong: imports, docstrings, slots, type variables."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.Pass):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if not isinstance(node, ast.Assign):
        return False
    value = node.value
    typing = isinstance(value, ast.Subscript) or (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "TypeVar"
    )
    return any(isinstance(one, ast.Name) and one.id == "__slots__" for one in node.targets) or (
        typing and isinstance(node.targets[0], ast.Name) and node.targets[0].id[:1].isupper()
    )


# What the tests reach, and whether they notice.

# Writes a line for each line of the package that is executed, once for each test and process, at once: a process may die.
RECORD = """
    import os, sys

    def record():
        out = os.open(os.environ["STRENGTH_LINES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        package = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inproc_jobs") + os.sep

        def see(code, number):
            if code.co_filename.startswith(package):
                os.write(out, f"{os.environ.get('STRENGTH_TEST', '')}\\t{code.co_filename[len(package):-3]}\\t{number}\\n".encode())
            return sys.monitoring.DISABLE

        sys.monitoring.use_tool_id(3, "strength")
        sys.monitoring.register_callback(3, sys.monitoring.events.LINE, see)
        sys.monitoring.set_events(3, sys.monitoring.events.LINE)

    if "STRENGTH_LINES" in os.environ:
        record()
"""


# Hooks of pytest, to which this file is a plugin there: they say which test it is and how long it takes.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    os.environ["STRENGTH_TEST"] = item.nodeid
    sys.monitoring.restart_events()
    started = time.monotonic()
    result = yield
    os.environ["STRENGTH_TEST"] = ""
    _note(f"{item.nodeid}\t{time.monotonic() - started}")
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _note(f"{report.nodeid}\tfailed")


def _note(line: str) -> None:
    with open(os.environ["STRENGTH_TIMES"], "a") as times:
        times.write(line + "\n")


@dataclass
class Reach:
    """What each test takes, and which it is that come to a line."""

    seconds: dict[str, float] = field(default_factory=dict)
    noticed: Counter[str] = field(default_factory=Counter)  # how many mutants by which of them so far
    tests: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    def forget(self, test: str) -> bool:
        """Ask *test* no more; return whether it was asked before."""
        for tests in self.tests.values():
            tests.discard(test)
        return self.seconds.pop(test, None) is not None

    def save(self, file: Path) -> None:
        """Keep it for another time: a run of the whole suite takes a while."""
        places = [[*place, sorted(tests)] for place, tests in self.tests.items()]
        file.write_text(json.dumps({"seconds": self.seconds, "places": places}))

    @classmethod
    def load(cls, file: Path) -> Reach | None:
        """Return what was kept in *file*, None if that does not exist."""
        if not file.exists():
            return None
        kept = json.loads(file.read_text())
        places = {(module, line): set(tests) for module, line, tests in kept["places"]}
        return cls(kept["seconds"], tests=places)

    def able(self, tests: Iterable[str]) -> list[str]:
        """Return those of *tests* that are quick enough to be asked."""
        return [test for test in tests if self.seconds.get(test, SLOWEST) < SLOWEST]

    def chosen(self, module: str, mutant: Mutant) -> list[str]:
        """Return the tests to ask about *mutant*: those that notice most, those of the module and the fast ones first."""
        own = f"test{module}.py"
        near = {test for line in mutant.lines for test in self.tests.get((module, line), ())}
        if not mutant.inside:
            near |= self.seconds.keys()
        chosen, left = [], BUDGET
        order = sorted(
            self.able(near), key=lambda test: (-self.noticed[test], own not in test, self.seconds[test], test)
        )
        for test in order:
            left -= self.seconds[test]
            if left < 0:
                break
            chosen.append(test)
        return chosen


def reach(place: Place, tests: list[str], folder: Path) -> Reach:
    """Run *tests* on the package as it is."""
    lines, times = folder / "lines", folder / "times"
    said = place.pytest("-p", "strength", *_STEADY, *tests, STRENGTH_LINES=str(lines), STRENGTH_TIMES=str(times))
    print(said.splitlines()[-1], flush=True)
    found = Reach()
    failed = set()
    for line in times.read_text().splitlines():
        test, seconds = line.split("\t")
        if seconds == "failed":
            failed.add(test)
        else:
            found.seconds[test] = float(seconds)
    for test in failed:
        print(f"not asked, for it fails on the package as it is: {test}", flush=True)
        found.seconds.pop(test, None)
    for line in lines.read_text(errors="replace").splitlines():
        test, module, number = line.rsplit("\t", 2)
        if test in found.seconds:
            found.tests[module, int(number)].add(test)
    return found


_STEADY = ("-p", "no:randomly", "--hypothesis-seed=0", "-m", "not whole and not slow")


HUNG = "a hang"


def notice(place: Place, module: str, mutant: Mutant, reach: Reach) -> str:
    """Return which test notices *mutant*, "" if none does."""
    chosen = reach.chosen(module, mutant)
    if not chosen:
        return ""
    compile(mutant.source, module, "exec")  # else it would be noticed by whoever imports it
    (place.package / f"{module}.py").write_bytes(mutant.source)
    for tests in (chosen[:FIRST], chosen[FIRST:]):
        trouble = tests and ask(place, tests, reach, "-x")
        if trouble:
            reach.noticed[trouble[0]] += 1
            return trouble[0]
    return ""


def ask(place: Place, tests: list[str], reach: Reach, *arguments: str) -> list[str]:
    """Return which of *tests* fail, or what else goes wrong."""
    limits = {test: 3 * reach.seconds[test] + HANG for test in tests}
    code, said = place.ask(*arguments, *_STEADY, limits=limits)
    if code == 0 and re.search(r"(?:passed|skipped).* in ", said):  # else the process has ended in the middle of it
        return []
    failures = re.findall(r"^(?:FAILED|ERROR) .*?(tests/.+?)(?: - |$)", said, re.MULTILINE)
    if failures:
        return failures
    if code is not None and "+ Timeout +" not in said:
        return [f"exit code {code}"]
    stuck = re.findall(r"\+ Timeout \+.*?, in (test_\w+)", said, re.DOTALL)
    return [" in ".join([HUNG, *stuck[:1]])]


def explained(module: str) -> dict[str, str]:
    """Return why mutants of *module* survive, by their keys."""
    start = f"{module} | "
    lines = [line.removeprefix(start) for line in EXPLAINED.read_text().splitlines() if line.startswith(start)]
    return dict(line.rsplit(" | ", 1) for line in lines)  # there may be another one in a line of the module


def mutate(chosen: argparse.Namespace) -> int:
    """Print which mutants of a module survive, and return 0 if each of them is explained."""
    module = chosen.mutants
    mutants = Mutator(module, (ROOT / "inproc_jobs" / f"{module}.py").read_bytes()).mutants
    reasons = explained(module)
    for key in reasons.keys() - {mutant.key for mutant in mutants}:
        print(f"survivors.txt explains what there is not any more: {module} | {key}")
    mutants = [mutant for mutant in mutants if re.search(chosen.match, mutant.key)]
    random.Random(chosen.seed).shuffle(mutants)
    mutants = mutants[chosen.skip :][: chosen.sample]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="strength-") as name:
        places: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for number in range(chosen.at_once):
            place = Place(Path(name) / str(number), RECORD)
            places.put(place)
        reached = chosen.reach and Reach.load(chosen.reach)
        if reached:
            files = {str(ROOT / test.partition("::")[0]) for test in reached.seconds}
            place.pytest("--collect-only", *files)  # which compiles them
        else:
            reached = reach(place, _paths(chosen.tests), Path(name))
            # Once more, as they are asked: what fails now and then would be taken for an answer.
            for trouble in ask(place, reached.able(reached.seconds), reached):
                print(f"not asked, for it fails on the package as it is: {trouble}", flush=True)
                if not reached.forget(trouble):
                    return 2
            if chosen.reach:
                reached.save(chosen.reach)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        print(f"{len(mutants)} mutants of {module}; the tests took {time.monotonic() - started:.0f} s", flush=True)

        def judge(mutant: Mutant) -> tuple[Mutant, str]:
            if mutant.key in reasons:
                return mutant, ""
            place = places.get()
            try:
                return mutant, notice(place, module, mutant, reached)
            finally:
                places.put(place)

        with ThreadPoolExecutor(chosen.at_once) as judges:
            counts = {"killed": 0, "of these by a hang": 0, "explained": 0, "open": 0}
            for done, (mutant, killer) in enumerate(judges.map(judge, mutants), 1):
                outcome = "explained" if mutant.key in reasons else "killed" if killer else "open"
                counts[outcome] += 1
                counts["of these by a hang"] += killer.startswith(HUNG)
                if killer and (chosen.killers or killer.startswith(HUNG)):
                    print(f"{killer} | {mutant.key}", flush=True)
                if outcome == "open":
                    where = "" if reached.chosen(module, mutant) else ", which no test reaches"
                    print(f"\nsurvives{where}: {mutant.key}\n{mutant.diff}\n", flush=True)
                if done % 25 == 0:
                    print(f"... {done} of {len(mutants)}, {time.monotonic() - started:.0f} s, {counts}", flush=True)
        for _ in range(chosen.at_once):
            places.get().close()
    print(f"{module}: {len(mutants)} mutants, {', '.join(f'{count} {what}' for what, count in counts.items())}")
    return 1 if counts["open"] else 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--coverage", action="store_true", help="print the branch coverage of the engine")
    what.add_argument("--mutants", metavar="MODULE", help="change this module of the engine, one place at a time")
    parser.add_argument("--sample", type=int, help="how many mutants, in an order that the seed decides; all without")
    parser.add_argument("--skip", type=int, default=0, help="how many to pass over first: those of a sample before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--match", default="", help="only mutants of which this expression is found in what is printed first"
    )
    parser.add_argument("--at-once", type=int, default=2, help="how many mutants at the same time")
    parser.add_argument("--killers", action="store_true", help="print also which test notices which mutant")
    parser.add_argument("--reach", type=Path, help="keep in this file which tests come where; or take it from there")
    parser.add_argument("tests", nargs="*", help="in place of the whole suite")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for what it starts beside itself
    return cover(chosen.tests) if chosen.coverage else mutate(chosen)


def _paths(tests: list[str]) -> list[str]:
    return [str(Path(test).resolve()) for test in tests] or [str(TESTS / part) for part in SUITE]


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main(sys.argv[1:]))

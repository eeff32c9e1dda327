"""The floor plan, held by reading the source; and the way of a run, counted."""

from __future__ import annotations

import ast
import dis
import itertools
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import inproc_jobs
from inproc_jobs import drain

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "inproc_jobs"
CORE = sorted(PACKAGE.glob("*.py"))

FLOORS = {
    **dict.fromkeys(("_report", "_mover", "_native", "_pid", "_spawn"), -1),
    **dict.fromkeys(("errors", "signals", "_clock", "_retry", "_stats", "_lifecycle"), 0),
    # Two floors share the number 1 in the plan: what a run is made of, and the run.
    **dict.fromkeys(("_options", "_carriers", "_commit"), 1),
    "_definition": 1.2,
    "_run": 1.4,
    **dict.fromkeys(("_timer", "_full"), 2),
    "_threads": 2.2,
    "_worker": 2.4,
    "_queue": 3,
    "_runtime": 4,
    "_job": 5,
    **dict.fromkeys(("__init__", "types"), 6),
    "_listing": 6.2,
    "_modes": 6.2,
    "testing": 7,
    "pytest_plugin": 7.2,
    **dict.fromkeys(("flask", "asgi"), 8),
}
BELOW_ALL = {"_clock"}  # read by its neighbours on floor 0


def imports(tree: ast.Module) -> set[str]:
    """Return the modules of this package that a module imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_a_module_imports_from_floors_below_its_own(path: Path) -> None:
    """No import runs upwards or sideways, so every file can be read with only those below it in mind."""
    for imported in imports(ast.parse(path.read_text())) - BELOW_ALL:
        assert FLOORS[imported] < FLOORS[path.stem], f"{path.stem} imports {imported}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_imports_stand_at_the_top(path: Path) -> None:
    """No import hides in a function or under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    inner = {node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)} - set(tree.body)

    assert not inner


def test_the_core_knows_no_framework() -> None:
    """Only the integrations import Flask, Django or asyncio."""
    for path in CORE:
        if FLOORS[path.stem] < 8:
            names = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                for name in (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom) and not node.level
                    else []
                )
            }
            assert not names & {"flask", "django", "click", "asyncio", "asgiref"}, path


def test_importing_loads_and_starts_little() -> None:
    """`import inproc_jobs` loads neither asyncio nor a framework, and starts no thread."""
    code = (
        "import sys, threading, inproc_jobs;"
        "print(sorted({'asyncio', 'flask', 'django', 'click', 'ctypes'} & set(sys.modules)), threading.active_count())"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert answer.stdout.split("\n")[0] == "[] 1"


def test_a_queue_has_few_attributes() -> None:
    """CPython 3.13 keeps up to 29 in the object itself; with one more each look at one is a look into a dictionary."""

    @inproc_jobs.job(name="few")
    def few() -> None:
        pass

    assert few.perform_async().wait(10)

    assert len(vars(few._definition.queue)) <= 29
    assert len(vars(few._definition.queue.threads)) <= 29


def test_nothing_sleeps() -> None:
    """The package and its tests wait for what happens, never for a while."""
    for folder in (PACKAGE, ROOT / "tests"):
        for path in folder.rglob("*.py"):
            assert not re.search(r"\bsleep" + r"\(", path.read_text()), path


def test_broad_excepts_are_few() -> None:
    """Everything is caught around `perform` and around foreign code, and nowhere else."""
    broad = re.compile(r"except( BaseException| Exception)?( as \w+)?:")

    found = {path.stem: len(broad.findall(path.read_text())) for path in CORE if broad.search(path.read_text())}

    assert found == {"_report": 1, "_worker": 1, "asgi": 1}


def uncovered_jumps(source: str) -> list[int]:
    """Return the lines of loops and comprehensions in a ``with`` whose jump back has another handler than their head."""
    tree = ast.parse(source)
    bodies: dict[int, list[range]] = {}  # of each function, by its first line

    def note(node: ast.AST, first: int) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
        if isinstance(node, ast.With | ast.AsyncWith) and "suppress(" not in ast.unparse(node.items[0]):
            bodies.setdefault(first, []).append(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
        for child in ast.iter_child_nodes(node):
            note(child, first)

    def look(code: CodeType) -> Iterator[int]:
        bytecode = dis.Bytecode(code)

        def handler(offset: int) -> int | None:
            return next(
                (entry.target for entry in bytecode.exception_entries if entry.start <= offset < entry.end), None
            )

        for step in bytecode:
            line = step.positions.lineno if step.positions else None
            held = any(line in body for body in bodies.get(code.co_firstlineno, ()))
            if held and step.opname == "JUMP_BACKWARD" and handler(step.offset) != handler(step.argval):
                yield line or 0
        for constant in code.co_consts:
            if isinstance(constant, CodeType) and not constant.co_name.startswith("<"):
                yield from look(constant)

    note(tree, 0)
    return list(look(compile(tree, "<source>", "exec")))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_no_lock_is_left_behind_by_a_loop(path: Path) -> None:
    """CPython 3.13 covers the jump back of some loops, as of one that ends with an ``if``, by no handler of its function.

    An error that a signal handler raises just there leaves the ``with`` around it without its end: with 3.13.0 the lock
    was still held after 145 to 150 of 150 errors. A loop in a function of its own has no such place.
    """
    assert uncovered_jumps(path.read_text()) == []


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="what CPython 3.13 compiles")
@pytest.mark.parametrize(
    "loop",
    ["return [one for one in ones if one]", "for one in ones:\n if one:\n  one()", "while ones:\n ones.pop()"],
)
@pytest.mark.parametrize("outer", ["with other", "if other"])
def test_a_loop_that_leaves_a_lock_behind_is_seen(loop: str, outer: str) -> None:
    """What was measured to leave it; also in another lock's block, whose handler does not let go of the inner one."""
    inner = textwrap.indent(loop, "   ")

    assert uncovered_jumps(f"def work(lock, other, ones):\n {outer}:\n  with lock:\n{inner}\n")


def test_all_names_what_is_public() -> None:
    """`__all__` is exactly the public names."""
    modules = {path.stem for path in CORE} - {"errors", "signals"}
    # What pytest adds to modules that it rewrites is no identifier.
    public = {name for name in vars(inproc_jobs) if name.isidentifier() and not name.startswith("_")} - modules

    assert set(inproc_jobs.__all__) == public


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="CPython 3.11.7 itself can loop for ever under a profile function (DO_TRACING)"
)
def test_the_way_of_a_run_is_short() -> None:
    """A warm run takes at most 20 calls of this package, in at most 8 files, with at most 14 switches between them."""
    hops: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            hops.append(Path(frame.f_code.co_filename).stem)

    gate = threading.Event()

    # One worker is kept busy with a run in front, so that what is counted is a run's own way and no start of a worker.
    @inproc_jobs.job(workers=1, name="warm")
    def warm(first: bool) -> None:
        if first:
            inside.set()
            assert gate.wait(10)
            sys.setprofile(note)

    inside = threading.Event()
    warm.perform_async(first=True)
    assert inside.wait(10)
    sys.setprofile(note)
    run = warm.perform_async(first=False)
    sys.setprofile(None)
    enqueue_hops = len(hops)
    gate.set()
    assert drain(10)

    assert run.done()
    end = max(index for index, hop in enumerate(hops) if hop == "_run") + 1  # close()
    way = hops[:end]
    assert enqueue_hops >= 4
    assert len(way) <= 20, way
    assert len(set(way)) <= 8
    assert sum(one != other for one, other in itertools.pairwise(way)) <= 14

"""Run the Python blocks of one page: ``python run_page.py docs/jobs.md``, in an empty folder.

In order and in one namespace, as somebody would type them. A block whose first line is a comment that names a file
(``# app.py``) is written there and imported instead; those that are called ``test_*.py`` are run by pytest when the page
is through. What a page leaves out for the reader's sake stands in ``surroundings/<page>.py``, run before it in
the same namespace; its ``afterwards(page)``, if it has one, gets that namespace when the page is through, in which ``TEXT`` is
the page. A job that fails fails the page, unless ``surroundings`` names it in ``FAILS``.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import subprocess
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from inproc_jobs import drain, signals

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")


def main(page: Path) -> int:
    module = types.ModuleType("page")
    vars(module)["TEXT"] = page.read_text()
    sys.modules["page"] = module
    sys.path.insert(0, "")
    failed: list[tuple[Any, str]] = []

    def note(job: Any, run: Any, error: BaseException, **extra: Any) -> None:
        failed.append((run, "".join(traceback.format_exception(error))))

    signals.job_failed.connect(note)
    surroundings = HERE / "surroundings" / f"{slug(page)}.py"
    if surroundings.exists():
        perform(surroundings.read_text(), surroundings, 0, module)
    for line, code in blocks(page):
        file = FILE.match(code)
        if file is None:
            perform(code, page, line, module)
        else:
            Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(file[1]).write_text(code)
            if not Path(file[1]).name.startswith("test_"):
                importlib.import_module(file[1].removesuffix(".py").replace("/", "."))
    if not drain(10):
        print("left when the page was through; it will be discarded", file=sys.stderr)
    if list(Path().glob("**/test_*.py")):
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *pytest_options()], check=True)
    if "afterwards" in vars(module):
        module.afterwards(module)
    unexpected = [text for run, text in failed if run.job.__name__ not in vars(module).get("FAILS", ())]
    print("\n".join(unexpected), file=sys.stderr)
    return 1 if unexpected else 0


def pytest_options() -> list[str]:
    """Return what keeps pytest to the plugins that a reader has."""
    return ["-p", "no:randomly", "-p", "no:asyncio", "-p", "no:django", "-p", "no:xdist", "-W", "error"]


def slug(page: Path) -> str:
    """Return what a page's surroundings are called: ``howto_testing`` for ``docs/howto/testing.md``."""
    folder = ROOT / "docs" if page.is_relative_to(ROOT / "docs") else ROOT
    return "_".join(page.relative_to(folder).with_suffix("").parts)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return the Python blocks of a page, each with the number of the lines before it."""
    text = page.read_text()
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in BLOCK.finditer(text)]


def perform(code: str, path: Path, line: int, module: types.ModuleType) -> None:
    """Run one block; its tracebacks name the page and its line."""
    compiled = compile("\n" * line + code, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:

        async def awaited() -> None:
            await eval(compiled, vars(module))

        asyncio.run(awaited())
    else:
        exec(compiled, vars(module))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv.pop()).resolve()))

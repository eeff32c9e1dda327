"""A Django site in a process of its own, which runs the pieces of code that a test gives it, one after the other.

Its app, models and settings are here too: this package is all of the site, and ``__main__`` its process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent.parent


def environment(**settings: object) -> dict[str, str]:
    """Return the environment of a process with these settings, besides those in ``settings``."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "django_site.settings",
        "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(HERE)))),
        "SITE_SETTINGS": json.dumps(settings),
    }


def run(*command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run ``python *command*``, for instance ``-m django check``, and return its end with all that it wrote."""
    return subprocess.run(
        [sys.executable, *command],
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


class Site:
    """The process, as a context manager.

    Each ``call`` finds a runtime that accepts work and empty tables, and fails if it leaves a thread, an open
    connection, or an error nobody has seen. *begin* is what each piece of code begins with.
    """

    def __init__(self, *, begin: str = "", first_on_path: Path | None = None, **settings: object) -> None:
        self._begin = textwrap.dedent(begin)
        self._errors = tempfile.TemporaryFile("w+")
        surroundings = environment(**settings)
        if first_on_path is not None:
            surroundings["PYTHONPATH"] = f"{first_on_path}{os.pathsep}{surroundings['PYTHONPATH']}"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "django_site"],
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)
        self._errors.close()

    def call(self, code: str, **names: object) -> Any:
        """Run *code*, a function's body indented as the test that holds it, and return what it returns, as JSON has it.

        It finds what ``__main__`` imports, and *names*: those that are functions are called here, in the test.
        """
        functions = {name: value for name, value in names.items() if callable(value)}
        values = {name: value for name, value in names.items() if name not in functions}
        self._tell({"code": self._begin + textwrap.dedent(code), "values": values, "functions": list(functions)})
        while True:
            said = self._hear()
            if "call" not in said:
                break
            called: Callable[[], object] = functions[said["call"]]
            self._tell({"answer": called()})
        assert "error" not in said, f"{said['error']}\n{self._stderr()}"
        return said["value"]

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the site's process has ended\n{self._stderr()}"
        said: dict[str, Any] = json.loads(line)
        return said

    def _stderr(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

"""What mypy and pyright make of correct and of wrong uses, without a plugin."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(*command: str) -> str:
    """Return what a checker prints; where it is not installed, skip on a laptop and fail in CI."""
    answer = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=240)
    if f"No module named {command[0]}" in answer.stderr:
        message = f"{command[0]} is not installed: pip install --group check"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return answer.stdout


def mypy(path: Path) -> set[int]:
    """Return the lines that mypy --strict flags."""
    output = run("mypy", "--strict", "--no-error-summary", "--no-incremental", str(path))
    return {int(line) for line in re.findall(rf"{path.name}:(\d+): error", output)}


def pyright(path: Path) -> set[int]:
    """Return the lines that pyright flags."""
    report = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, str(path)))
    return {one["range"]["start"]["line"] + 1 for one in report["generalDiagnostics"] if one["severity"] == "error"}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("page", ["accepted.py", "rejected.py"])
def test_exactly_the_wrong_lines_are_flagged(checker: Callable[[Path], set[int]], page: str) -> None:
    """Arguments, options and results are checked against `perform`; each wrong line is flagged and no other."""
    path = HERE / page
    wrong = {number for number, line in enumerate(path.read_text().splitlines(), 1) if line.endswith("# E")}

    assert checker(path) == wrong


@pytest.mark.slow
def test_everything_public_has_a_type(tmp_path: Path) -> None:
    """Pyright knows the type of everything public; with django-stubs, for Django has no types of its own."""
    # Apart, for mypy takes stubs that are installed, and those want a plugin and a site.
    for what in (str(ROOT), "django-stubs"):
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), what)
        subprocess.run(pip, check=True, capture_output=True, timeout=120)
    command = (sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--ignoreexternal", "--outputjson")

    answer = subprocess.run(
        [*command, "--verifytypes", "inproc_jobs"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )

    found = json.loads(answer.stdout)["typeCompleteness"]
    unknown = {one["name"] for one in found["symbols"] if one["isExported"] and not one["isTypeKnown"]}
    assert found["exportedSymbolCounts"]["withKnownType"] > 100
    assert not unknown

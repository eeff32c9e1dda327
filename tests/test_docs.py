"""The docs against the code: what they state must be so."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import inproc_jobs
from inproc_jobs import _options, signals

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table after *heading*, without their back quotes."""
    text = (ROOT / page).read_text().split(heading, 1)[1]
    rows = re.search(r"((?:^\|.*\|\n)+)", text, re.MULTILINE)
    assert rows is not None
    cells = [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows[1].splitlines()]
    return cells[2:]


def test_the_table_of_options_is_the_options() -> None:
    """docs/jobs.md names every option with its default, in order."""
    defaults = _options.Options()

    stated = [(name, default) for name, default, _ in table("docs/jobs.md", "## Options")]

    expected = [(name, repr(getattr(defaults, name)).replace("'", '"')) for name in _options.OPTIONS]
    expected = [(name, "10_000" if name == "max_queue" else default) for name, default in expected]
    assert stated == [*expected, ("name", "module.QualName")]


def test_the_table_of_settings_is_the_settings() -> None:
    """docs/flask.md names every config key with its default."""
    defaults = _options.Settings()

    stated = {name: ast.literal_eval(default) for name, default, _ in table("docs/flask.md", "## Configuration")}

    assert stated == {f"INPROC_JOBS_{name.upper()}": getattr(defaults, name) for name in _options.SETTINGS}


def test_configure_takes_the_settings() -> None:
    """configure() and the settings name the same things."""
    assert set(inspect.signature(inproc_jobs.configure).parameters) - {"unknown"} == set(_options.SETTINGS)


def test_the_table_of_signals_is_the_signals() -> None:
    """docs/watching.md names every signal."""
    stated = {
        name for row in table("docs/watching.md", "## Signals") for name in re.findall(r"(?:job|shutdown)_\w+", row[0])
    }

    assert stated == set(signals.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_blocks_are_python(page: Path) -> None:
    """Every block marked as Python can be compiled."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file that is there."""
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_readme_can_be_read_at_once() -> None:
    """The README stays under 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150

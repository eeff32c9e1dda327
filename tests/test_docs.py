"""The docs against the code: what they state must be so, and what they show must run."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import django
import pytest

import inproc_jobs
from inproc_jobs import RunState, Stats, _options, errors, signals

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
BESIDES = sorted([ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md", *ROOT.glob("examples/*/README.md")])
KINDS = {"python", "sh", "text", "ini", "{toctree}", "{eval-rst}"}  # of blocks
RUNNER = ROOT / "tests" / "docs" / "run_page.py"
SURROUNDINGS = sorted((ROOT / "tests" / "docs" / "surroundings").glob("*.py"))

# Pages whose blocks are run elsewhere, and why.
ELSEWHERE = {
    "tutorial/flask.md": "followed with its commands by tests/integration/test_tutorials.py",
    "tutorial/django.md": "followed with its commands by tests/integration/test_tutorials.py",
}
NEEDS_DJANGO = {"django.md": (6, 1)}  # options of @task


def name(page: Path) -> str:
    return str(page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT))


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


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("docs/flask.md", "## Configuration"),
        ("docs/django.md", "## Settings"),
        ("docs/reference/settings.md", "# Settings"),
    ],
    ids=["flask", "django", "reference"],
)
def test_the_tables_of_settings_are_the_settings(page: str, heading: str) -> None:
    """Each page names every config key with its default."""
    defaults = _options.Settings()

    stated = {row[-3]: ast.literal_eval(row[-2]) for row in table(page, heading)}

    assert stated == {_options.config_key(name): getattr(defaults, name) for name in _options.SETTINGS}


def test_the_settings_have_their_names_in_configure() -> None:
    """docs/reference/settings.md names what configure() takes, beside the key of each."""
    stated = {row[0]: row[1] for row in table("docs/reference/settings.md", "# Settings")}

    taken = set(inspect.signature(inproc_jobs.configure).parameters) - {"unknown"}
    assert stated == {name: _options.config_key(name) for name in taken}


def test_the_table_of_signals_is_the_signals() -> None:
    """docs/watching.md names every signal."""
    stated = {
        name for row in table("docs/watching.md", "## Signals") for name in re.findall(r"(?:job|shutdown)_\w+", row[0])
    }

    assert stated == set(signals.__all__)


def test_the_stats_are_all_there() -> None:
    """docs/watching.md names every field of Stats."""
    section = (DOCS / "watching.md").read_text().split("## Stats", 1)[1].split("\n## ", 1)[0]

    assert {field.name for field in fields(Stats)} <= set(re.findall(r"`(\w+)`", section))


def test_the_states_are_all_there() -> None:
    """The page and the picture show every state of a run."""
    stated = [row[0] for row in table("docs/reference/states.md", "# States")]

    drawn = set(re.findall(r">(\w+)</text>", (DOCS / "pictures" / "states.svg").read_text()))
    assert set(stated) == {state.value for state in RunState}
    assert set(stated) <= drawn


def test_the_tree_of_errors_is_the_tree() -> None:
    """docs/reference/errors.md draws every error with the class of the standard library that it is, too."""
    drawn = dict(
        re.findall(r"── (\w+) +(?:\(([\w.]+)\))?", (DOCS / "reference" / "errors.md").read_text().split("```")[1])
    )

    assert set(drawn) | {"InprocJobsError"} == {
        one for one, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    for error, other in drawn.items():
        module, _, name = (other or "Exception").rpartition(".")
        assert issubclass(getattr(errors, error), getattr(importlib.import_module(module or "builtins"), name))


def test_the_floor_plan_shows_every_module() -> None:
    """The picture of the floor plan has all modules of the package, and so has CONTRIBUTING."""
    picture = (DOCS / "pictures" / "floors.svg").read_text()
    drawn = {word for text in re.findall(r"<text[^>]*>([^<]+)", picture) for word in re.findall(r"\w+", text)}
    listed = {word for row in table("CONTRIBUTING.md", "## Where things are") for word in re.findall(r"\w+", row[1])}

    modules = {path.stem for path in (ROOT / "inproc_jobs").glob("*.py")}
    assert modules <= drawn
    assert modules <= listed


def test_the_tests_that_show_a_promise_exist() -> None:
    """docs/explanation/guarantees.md names tests that are there."""
    named = re.findall(r"`(tests/\S+)::(\w+)`", (DOCS / "explanation" / "guarantees.md").read_text())

    assert len(named) > 20
    for path, test in named:
        assert re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{test}"


@pytest.mark.slow  # all pages together
@pytest.mark.parametrize("page", [page for page in PAGES if name(page) not in ELSEWHERE], ids=name)
def test_the_code_blocks_run(page: Path, tmp_path: Path) -> None:
    """Every block marked as Python runs, in the order of its page, and no job fails that is not meant to."""
    if "```python\n" not in page.read_text():
        return
    needed = NEEDS_DJANGO.get(name(page), (0,))
    if needed > django.VERSION:
        pytest.skip(f"needs Django {needed}, this is {django.__version__}")

    done = subprocess.run(
        [sys.executable, str(RUNNER), str(page)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_goes_unseen(page: Path) -> None:
    """Each block says what it is, and Python is not indented, so that it is found and run."""
    text = page.read_text()
    opening = re.findall(r"^([ >]*)```(.*)$", text, re.MULTILINE)[::2]

    assert {kind for _, kind in opening} <= KINDS
    assert "python" not in {kind for indent, kind in opening if indent}
    assert not re.search(r"^ *~~~|code-block|literalinclude", text, re.MULTILINE)
    for block in re.findall(r"^```(?:sh|text|ini)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        assert not re.search(r"^(from \S+ import|import \w|def |class |@\w)", block, re.MULTILINE), block


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=name)
def test_the_code_fits_the_page(page: Path) -> None:
    """No line of code has to be scrolled to on a desktop; docs/_static/pages.css has the size of the letters."""
    for block in re.findall(r"^```(?:python|sh)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        assert not [line for line in block.splitlines() if len(line) > 98]


def test_no_surroundings_without_a_page() -> None:
    """What a page leaves out belongs to a page."""
    slugs = {"_".join(Path(name(page)).with_suffix("").parts) for page in PAGES}

    assert {path.stem for path in SURROUNDINGS} <= slugs


def links(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by, on GitHub and in the built docs."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *BESIDES], ids=name)
def test_the_links_lead_somewhere(page: Path) -> None:
    """Every link that stays here leads to a file that is there, and to a heading that it has."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        if path.startswith(("https://", "http://")):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_can_be_read_at_once() -> None:
    """The README stays under 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150

"""What pip installs: the built wheel, with each extra alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow

DJANGO = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["inproc_jobs.django"])
django.setup()
import inproc_jobs
print(inproc_jobs.job(lambda: 3).perform_async().result(5))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the sdist, as a release would, without leaving anything in the tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel is typed, licensed, and free of tests and examples."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert "inproc_jobs/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"inproc_jobs"}


@pytest.mark.parametrize(
    ("extra", "code", "without"),
    [
        ("", "import inproc_jobs; print(inproc_jobs.job(lambda: 3).perform_async().result(5))", "flask"),
        ("[flask]", "import inproc_jobs.flask; print(3)", "django"),
        ("[django]", DJANGO, "flask"),
    ],
    ids=["bare", "flask", "django"],
)
def test_each_extra_works_alone(tmp_path: Path, wheel: Path, extra: str, code: str, without: str) -> None:
    """Installed with one extra in an empty environment, the package imports and runs; nothing else comes along."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True, timeout=120)
    python = str(tmp_path / "bin" / "python")
    install = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", f"{wheel}{extra}"]
    subprocess.run(install, check=True, capture_output=True, timeout=240)

    answer = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    other = subprocess.run([python, "-c", f"import {without}"], cwd=tmp_path, capture_output=True, timeout=60)

    assert (answer.stdout.strip(), answer.stderr, answer.returncode) == ("3", "", 0)
    assert other.returncode != 0

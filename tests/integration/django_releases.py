"""Releases of Django beside the installed one, and the tests that a release comes with; kept under ``.venvs/``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

KEPT = Path(__file__).resolve().parents[2] / ".venvs"
PATIENCE = 300  # seconds for a download

# To download a source distribution pip has it build its metadata, in an environment made for that: 20 s for Django.
# Without such an environment it takes this for setuptools, and the metadata that the distribution comes with.
SETUPTOOLS = """
import email, pathlib, shutil

def prepare_metadata_for_build_wheel(folder, settings=None):
    version = email.message_from_string(pathlib.Path("PKG-INFO").read_text())["Version"]
    info = pathlib.Path(folder, f"django-{version}.dist-info")
    info.mkdir()
    shutil.copy("PKG-INFO", info / "METADATA")
    return info.name
"""


def own_tests(version: str) -> Path:
    """Return the folder ``tests/tasks`` of Django's source distribution, those of ``django.tasks``."""

    def fetch(folder: Path) -> None:
        setuptools = folder / "setuptools"
        setuptools.mkdir()
        (setuptools / "__init__.py").touch()
        (setuptools / "build_meta.py").write_text(SETUPTOOLS)
        options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(folder))
        _pip("download", *options, f"django=={version}", PYTHONPATH=str(folder))
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as source:
            wanted = [one for one in source if "/tests/tasks/" in one.name]
            source.extractall(folder, wanted, filter="data")
        (extracted,) = folder.glob("*/tests/tasks")
        shutil.move(extracted, folder / "tasks")
        shutil.rmtree(setuptools)
        archive.unlink()

    return _kept(f"django-{version}-tests", fetch) / "tasks"


def installed(release: str) -> tuple[Path, str]:
    """Return a folder for ``sys.path`` that holds the newest Django of a release, as ``6.0``, and its version."""
    folder = _kept(
        f"django-{release}-{sys.version_info.major}.{sys.version_info.minor}",
        lambda folder: _pip("install", "--target", str(folder), f"django=={release}.*"),
    )
    (version,) = (one.version for one in distributions(name="django", path=[str(folder)]))
    return folder, version


def _pip(*arguments: str, **environment: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments],
        check=True,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


def _kept(name: str, fetch: Callable[[Path], object]) -> Path:
    """Return the folder of that name, filled by *fetch* where it is not there yet; whole or not at all."""
    folder = KEPT / name
    if not folder.exists():
        KEPT.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as place:
            made = Path(place, name)
            made.mkdir()
            fetch(made)
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not folder.exists():
                    raise
    return folder

"""Warns of public names, also those of classes, that the API pages leave out; the build then fails."""

# What Sphinx calls has parameters of its choice.
# ruff: noqa: ARG001, D103

from __future__ import annotations

import importlib
from types import FunctionType, ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

MODULES = (
    "inproc_jobs",
    "inproc_jobs.signals",
    "inproc_jobs.errors",
    "inproc_jobs.testing",
    "inproc_jobs.types",
    "inproc_jobs.flask",
    "inproc_jobs.asgi",
    "inproc_jobs.django",
)

_logger = logging.getLogger(__name__)


def public(module_name: str) -> dict[str, Any]:
    """Return what a module offers, by full name: its ``__all__``, or what it defines itself."""
    module = importlib.import_module(module_name)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module_name
    ]
    return {f"{module_name}.{name}": getattr(module, name) for name in names}


def members(name: str, value: Any) -> dict[str, Any]:
    """Return what a class of ours offers itself, by full name: its methods and properties."""
    kinds = (FunctionType, classmethod, property)
    own = vars(value) if isinstance(value, type) else {}
    return {f"{name}.{one}": member for one, member in own.items() if one[0] != "_" and isinstance(member, kinds)}


def compare(app: Sphinx, env: BuildEnvironment) -> None:
    """Compare what there is with what is documented; what two modules offer is documented once."""
    offered: dict[str, Any] = {}
    for module in MODULES:
        offered |= public(module)
    for name, value in list(offered.items()):
        offered |= members(name, value)
    documented = set(env.domains.python_domain.objects)
    known = {id(value) for name, value in offered.items() if name in documented}
    for name, value in offered.items():
        if id(value) not in known and not isinstance(value, ModuleType):
            _logger.warning("not in the API pages: %s", name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-check-consistency", compare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

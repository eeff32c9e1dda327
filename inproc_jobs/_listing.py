"""The job classes with their options, as the commands of the integrations print them."""

from __future__ import annotations

from collections.abc import Iterator

from . import _runtime
from ._options import OPTIONS, Options

_DEFAULTS = Options()


def listing() -> Iterator[str]:
    """Yield the lines; what differs from the default is marked."""
    definitions = _runtime.definitions()
    if not definitions:
        yield "No job classes: they are listed once the modules that define them are imported."
    for definition in definitions:
        yield definition.name
        for name in OPTIONS:
            value = getattr(definition.options, name)
            changed = "" if value == getattr(_DEFAULTS, name) else "  (set)"
            yield f"    {name:<14} {value!r}{changed}"

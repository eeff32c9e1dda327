"""What the tests of whole processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from process import Process


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """See that no process has said what no test has looked at."""
    yield
    unheard = Process.unheard()
    assert not unheard, "\n".join(unheard)

"""The model of the stop: no order of its threads' steps breaks a promise, and the search finds what would."""

from __future__ import annotations

import os
from collections.abc import Iterator

import model
import pytest

LONG = os.environ.get("INPROC_JOBS_PROOF") == "long"


@pytest.fixture(scope="module")
def checker() -> Iterator[model.Checker]:
    lacking = model.lacking()
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)
    with model.Checker() as checker:
        yield checker


@pytest.mark.timeout(3600 if LONG else 120)
@pytest.mark.parametrize("search", model.SHORT + (model.LONG if LONG else ()), ids=str)
def test_no_order_breaks_a_promise(checker: model.Checker, search: model.Search):
    """Whatever thread goes on when: accepted runs are closed once, the stop ends, nothing is dropped while there is time."""
    answer = checker.search(search, optimise="-O2" if LONG else "-O0")

    assert not answer.error, "\n".join(answer.steps)
    assert answer.complete
    assert answer.states > 10_000


@pytest.mark.parametrize("search", model.BUGS, ids=str)
def test_a_planted_bug_is_found(checker: model.Checker, search: model.Search):
    """A protocol with one line less breaks the promise, so the search is known to search."""
    answer = checker.search(search, optimise="-O2" if LONG else "-O0")

    assert answer.error
    assert answer.steps

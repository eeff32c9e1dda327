"""The rows and the files of the page's jobs, and an ASGI app."""

from inproc_jobs import current_run
from inproc_jobs.errors import RunCancelledError

lost, stored, positions = [], [], {}


def store(number, row):
    stored.append((number, row))
    if row == "last":
        current_run().cancel()


def read(path):
    return ["a", "last", "b"][position(path) :]


def position(path):
    return positions.get(path, 0)


def remember(path, number):
    positions[path] = number


def remember_lost(*what):
    lost.append(what)


async def app(scope, receive, send): ...


def afterwards(page):
    run = page.ImportJob.perform_async(["first", "last", "never"])
    try:
        run.result(5)
    except RunCancelledError:
        assert stored == [(0, "first"), (1, "last")]
    for _ in range(2):
        page.ResumingJob.perform_async("rows.csv").wait(5)
    assert positions == {"rows.csv": 3}
    delayed = page.ImportJob.perform_in(60, [])
    page.shutdown(0)
    assert lost == [("page.ImportJob", delayed.id)]
    page.restart()

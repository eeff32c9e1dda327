"""The pictures and the rows of the page's jobs."""

from inproc_jobs.errors import QueueFullError

stored, pictures = [], []
store = stored.append
make_thumbnail = pictures.append


def afterwards(page):
    assert sorted(stored) == list(range(20_000))
    assert sorted(pictures) == ["archive.png", "front-page.png"]

    @page.app.get("/")
    def refused():
        raise QueueFullError

    assert page.app.test_client().get("/").status_code == 503

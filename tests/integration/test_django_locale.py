"""What belongs to a thread of Django's, language, time zone and caches: in a job, after it, with asgiref old and new."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django_site import Site

OLD_ASGIREF = "3.8.1"  # the oldest that Django 5.2 takes; there a copied context shares what is local to a thread

BEGIN = """
def locale():
    return [translation.get_language(), timezone.get_current_timezone_name(), translation.gettext("Monday")]

look = job(locale, name="look")

@job
async def look_async():
    return locale()

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
"""

DEFAULT = ["en-us", "UTC", "Monday"]
GERMAN = ["de", "Europe/Berlin", "Montag"]


def make_site(folder: os.PathLike[str], **more: object) -> Site:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db")}  # type: ignore[operator]
    middleware = ["django.middleware.locale.LocaleMiddleware"]
    caches = {"default": {"BACKEND": "django_site.caches.Noting"}}
    return Site(
        begin=BEGIN,
        DATABASES={"default": database},
        CACHES=caches,
        MIDDLEWARE=middleware,
        TIME_ZONE="UTC",
        **more,
    )


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with make_site(tmp_path_factory.mktemp("new")) as site:
        yield site


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("old")
    install = ["install", "--quiet", "--no-deps", "--target", str(folder / "packages"), f"asgiref=={OLD_ASGIREF}"]
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *install], capture_output=True)
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"asgiref {OLD_ASGIREF} could not be installed")
    assert done.returncode == 0, done.stderr.decode()
    with make_site(folder, first_on_path=folder / "packages") as site:
        yield site


@pytest.fixture(params=["new", "old"])
def site(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue(request.param)
    return site


def test_the_old_asgiref_is_old(old):
    """The tests with the old one are what they say."""
    assert old.call("import asgiref; return asgiref.__version__") == OLD_ASGIREF


@pytest.mark.parametrize("look", ["look", "look_async"])
def test_a_job_has_the_locale_of_its_enqueue(site, look):
    """Whatever is active where a run is enqueued is active in the job, and nothing of it is left for the next one."""
    seen = site.call(
        """
        after = []

        def note(job, **extra):
            after.append(contextvars.Context().run(locale))  # of the thread, without the run's own context

        look = {"look": look, "look_async": look_async}[which]
        with override_settings(INPROC_JOBS_MAX_THREADS=1), connected(signals.job_succeeded, note):
            first = look.perform_async().result(WAIT)
            with translation.override("de"), timezone.override(BERLIN):
                german = look.perform_async().result(WAIT)
                waits = look.perform_in(0.05)
            last = look.perform_async().result(WAIT)
            waited = waits.result(WAIT)
        return [first, german, waited, last, after]
        """,
        which=look,
    )

    assert seen == [DEFAULT, GERMAN, GERMAN, DEFAULT, [DEFAULT] * 4]


def test_a_thread_enqueues_with_its_own_locale(site):
    """Threads with languages of their own hand on each its own."""
    seen = site.call("""
        results = {}

        def enqueue(language):
            with translation.override(language):
                together.wait(WAIT)
                results[language] = [look.perform_async().result(WAIT)[0] for _ in range(20)]

        languages = ["de", "fr", "en"]
        together = threading.Barrier(3)
        threads = [threading.Thread(target=enqueue, args=(language,)) for language in languages]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        return [sorted(set(results[language])) for language in languages]
    """)

    assert seen == [["de"], ["fr"], ["en"]]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_job_has_the_locale_of_the_request(site, kind):
    """What a middleware finds out about the visitor holds in the job that the view enqueues."""
    seen = site.call(
        """
        from django.http import JsonResponse
        from django.urls import path

        runs = []

        def enqueue(request):
            timezone.activate(BERLIN)
            runs.extend([look.perform_async(), look_async.perform_async(), look.perform_on_commit()])
            return JsonResponse({})

        def view(request):
            return enqueue(request)

        async def aview(request):
            return enqueue(request)

        urls = (path("sync", view), path("async", aview))
        with override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"]):
            if kind == "sync":
                Client().get("/sync", headers={"Accept-Language": "de"})
            else:
                asyncio.run(AsyncClient().get("/async", headers={"Accept-Language": "de"}))
        timezone.deactivate()
        translation.deactivate()
        return [run.result(WAIT) for run in runs]
        """,
        kind=kind,
    )

    assert seen == [GERMAN] * 3


def test_a_retry_has_the_locale_of_the_enqueue(site):
    """Each attempt has it, and what an attempt changes is not there in the next."""
    seen = site.call("""
        seen = []

        @job(retry=Retry(attempts=3, backoff=0.0))
        def fail():
            seen.append(locale())
            translation.activate("fr")
            timezone.activate("Asia/Tokyo")
            raise LookupError

        with override_settings(INPROC_JOBS_MAX_THREADS=1):
            with translation.override("de"), timezone.override(BERLIN):
                fail.perform_async().wait(WAIT)
            return [seen, look.perform_async().result(WAIT)]
    """)

    assert seen == [[GERMAN] * 3, DEFAULT]


def test_whoever_enqueues_keeps_the_locale(site):
    """While a job has a locale of its own, and after it, the thread that has enqueued it has its own, too."""
    seen = site.call("""
        gate = Gate()

        @job
        def change():
            translation.activate("fr")
            timezone.activate("Asia/Tokyo")
            gate()

        with translation.override("de"), timezone.override(BERLIN):
            run = change.perform_async()
            gate.entered()
            during = locale()
            gate.open()
            run.result(WAIT)
            return [during, locale()]
    """)

    assert seen == [GERMAN] * 2


def test_perform_now_and_caller_runs_leave_the_callers_locale(site):
    """What a job does to the locale in its caller's thread is undone."""
    seen = site.call("""
        gate = Gate()

        @job(workers=1, max_queue=1, when_full="caller_runs")
        def change(busy=False):
            if busy:
                return gate()
            before = locale()
            translation.activate("fr")
            timezone.activate("Asia/Tokyo")
            return before

        with translation.override("de"), timezone.override(BERLIN):
            seen = [change.perform_now(), locale()]
            change.perform_async(True)
            gate.entered()
            change.perform_async(True)
            seen += [change.perform_async().result(WAIT), locale()]
            gate.open()
            return seen
    """)

    assert seen == [GERMAN] * 4


def test_no_language_at_all_is_handed_on_too(site):
    """Where translations are switched off they are off in the job."""
    seen = site.call("""
        with translation.override(None):
            return look.perform_async().result(WAIT)
    """)

    assert seen == [None, "UTC", "Monday"]


def test_zones_of_any_kind_are_handed_on(site):
    """A zone need not be hashable, as those of dateutil are not, and equal ones keep their own names."""
    seen = site.call("""
        import datetime

        class Unhashable(datetime.tzinfo):
            __hash__ = None

            def tzname(self, moment):
                return "unhashable"

            def utcoffset(self, moment):
                return datetime.timedelta(hours=1)

        hour = datetime.timedelta(hours=1)
        seen = []
        for zone in (Unhashable(), datetime.timezone(hour, "one"), datetime.timezone(hour, "other")):
            with timezone.override(zone):
                seen.append(look.perform_async().result(WAIT)[1])
        return seen
    """)

    assert seen == ["unhashable", "one", "other"]


def test_waiting_runs_of_one_locale_share_it(site):
    """A locale costs a run that waits a pair of references, and nothing that is made anew."""
    seen = site.call("""
        with translation.override("de"), timezone.override(BERLIN):
            runs = [look.perform_in(3600) for _ in range(100)]
        parts = {id(part) for run in runs for part in run._carried[-1]}
        for run in runs:
            run.cancel()
        return len(parts)
    """)

    assert seen == 2


def test_a_job_has_caches_of_its_own(site):
    """As around a request: a cache is no other thread's, and is closed after each attempt; perform_now closes none."""
    seen = site.call("""
        from django.core.cache import cache, caches

        used = []

        @job
        def use():
            cache.set("key", 1)
            used.append(caches["default"])

        cache.set("key", 0)
        callers = caches["default"]
        for _ in range(2):
            use.perform_async().result(WAIT)
        drain(WAIT)
        closed = [one.closed for one in used]
        use.perform_now()
        return [callers in used[:2], closed, used[2].closed, callers.closed]
    """)

    assert seen == [False, [1, 1], 0, 0]


def test_a_job_has_nothing_of_a_thread_that_has_ended(site):
    """Not even where its own thread has got the identifier of that one, by which asgiref tells threads apart."""
    shared = site.call("""
        from django.core.cache import caches

        @job(workers=1)
        def use():
            return id(caches["default"])

        def enter():
            entered.append([caches["default"], contextvars.copy_context()])

        shared = []
        for _ in range(20):
            waits = use.perform_in(3600)  # so that the next thread of ours to start is a worker's
            entered = []
            thread = threading.Thread(target=enter)
            thread.start()
            thread.join(WAIT)
            ((cache, context),) = entered
            shared.append(context.run(use.perform_async).result(WAIT) == id(cache))
            waits.cancel()
            inproc_jobs.shutdown(WAIT)
            inproc_jobs.restart()
        return any(shared)
    """)

    assert shared is False


def test_a_job_can_run_coroutines_whatever_enqueues_it(site):
    """A sync job that runs an event loop itself does not run into the one of the view that has enqueued it."""
    seen = site.call("""
        @job
        def run_loop():
            return asyncio.run(main())

        async def main():
            return await sync_to_async(threading.current_thread)() is not None

        async def view():
            return [run_loop.perform_async(), await sync_to_async(run_loop.perform_async)()]

        runs = async_to_sync(view)() + asyncio.run(view())
        return [run.result(WAIT) for run in runs]
    """)

    assert seen == [True] * 4

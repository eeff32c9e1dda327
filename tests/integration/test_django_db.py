"""The database around jobs, on SQLite files and a real PostgreSQL server: what is opened, closed, and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django_site import Site
from postgres import Postgres


class Database:
    """A site and its database; ``open_connections()`` is the number of connections to it that are open."""

    def __init__(self, site: Site, server: Postgres | None) -> None:
        self._site = site
        # Of a file the process counts its own descriptors, of a server one asks from outside.
        self._functions = {} if server is None else {"open_connections": server.connections_left}

    def call(self, code: str, **names: object) -> Any:
        return self._site.call(code, **self._functions, **names)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def postgresql(server: Postgres) -> Iterator[Database]:
    with Site(DATABASES={"default": server.database}) as site:
        yield Database(site, server)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    options = {"init_command": "PRAGMA synchronous=OFF", "timeout": 20}
    file = str(tmp_path_factory.mktemp("sqlite") / "db")
    with Site(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": options}}
    ) as site:
        yield Database(site, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(request.param)
    return database


def test_500_runs_on_8_threads_leave_no_connection_open(db):
    """With CONN_MAX_AGE=0 a connection lasts as long as an attempt, though the thread lives on."""
    seen = db.call("""
        class Write(Job, workers=8):
            def perform(self, number):
                Entry.objects.create(text=str(number))

        with created() as threads:
            runs = [Write.perform_async(number) for number in range(500)]
            assert drain(WAIT)

        return {
            "left open": open_connections(),
            "states": sorted({run.state for run in runs}),
            "made by": len(threads) == 500 and len(set(threads)),
            "threads": len(workers()),
            "rows": Entry.objects.count(),
        }
    """)

    assert seen == {"left open": 0, "states": ["succeeded"], "made by": 8, "threads": 8, "rows": 500}


def test_connections_that_last_are_one_for_each_thread_and_end_with_it(db):
    """With CONN_MAX_AGE=60 eight threads make eight connections for 500 runs, and close them when they retire."""
    seen = db.call("""
        class Write(Job, workers=8):
            def perform(self, number):
                Entry.objects.create(text=str(number))

        with lingering(0.5), database(CONN_MAX_AGE=60), created() as threads:
            runs = [Write.perform_async(number) for number in range(500)]
            assert drain(WAIT)
            at_work = workers()
            made = len(threads)
            for thread in at_work:
                thread.join(WAIT)

        return {
            "states": sorted({run.state for run in runs}),
            "made": made == len(set(threads)) <= 8,
            "left open": open_connections(),
        }
    """)

    assert seen == {"states": ["succeeded"], "made": True, "left open": 0}


def test_connections_that_last_are_kept_between_runs(db):
    """With CONN_MAX_AGE=60 the threads that wait for work keep their connections."""
    seen = db.call("""
        @job(workers=3)
        def read(together):
            together.wait(WAIT)
            Entry.objects.count()

        def read_on_three_threads():
            together = threading.Barrier(3)
            for run in [read.perform_async(together) for _ in range(3)]:
                run.result(WAIT)

        with database(CONN_MAX_AGE=60), created() as threads:
            for _ in range(5):
                read_on_three_threads()

        return [len(threads), len(set(threads))]
    """)

    assert seen == [3, 3]


def test_a_connection_that_fails_its_health_check_costs_nothing(postgresql, server):
    """With CONN_HEALTH_CHECKS a restart of the server between two runs is not even noticed."""
    attempts = postgresql.call(
        """
        class Write(Job, retry=Retry(attempts=2, backoff=0.0)):
            def perform(self):
                Entry.objects.create(text="x")
                return self.run.attempt

        with database(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True):
            first = Write.perform_async().result(WAIT)
            restart()
            return [first, Write.perform_async().result(WAIT)]
        """,
        restart=server.restart,
    )

    assert attempts == [1, 1]


def test_a_restart_of_the_server_costs_one_retry(postgresql, server):
    """When eight threads hold connections of the server before its restart, the first failure warns them all."""
    seen = postgresql.call(
        """
        @job(workers=8)
        def connect(together):
            Entry.objects.count()
            together.wait(WAIT)

        class Write(Job, workers=8, retry=Retry(attempts=2, backoff=0.0)):
            def perform(self):
                Entry.objects.create(text="x")
                return self.run.attempt

        with database(CONN_MAX_AGE=60):
            together = threading.Barrier(8)
            for run in [connect.perform_async(together) for _ in range(8)]:
                run.result(WAIT)
            connections.close_all()
            restart()
            attempts = [Write.perform_async().result(WAIT) for _ in range(20)]
            return [attempts, Entry.objects.count()]
        """,
        restart=server.restart,
    )

    assert seen == [[2] + [1] * 19, 20]


def test_a_restart_costs_nothing_without_lasting_connections(postgresql, server):
    """With CONN_MAX_AGE=0 the run after the restart opens a connection of its own anyway."""
    attempts = postgresql.call(
        """
        class Write(Job):
            def perform(self):
                Entry.objects.create(text="x")
                return self.run.attempt

        first = Write.perform_async().result(WAIT)
        restart()
        return [first, Write.perform_async().result(WAIT)]
        """,
        restart=server.restart,
    )

    assert attempts == [1, 1]


def test_debug_does_not_grow(sqlite):
    """Under DEBUG Django notes each query of a connection; each attempt begins with none noted."""
    noted = sqlite.call("""
        @job(workers=1)
        def read():
            before = len(connection.queries)
            for _ in range(10):
                Entry.objects.count()
            return [before, len(connection.queries)]

        with override_settings(DEBUG=True), database(CONN_MAX_AGE=60):
            return [read.perform_async().result(WAIT) for _ in range(20)]
    """)

    assert [before for before, _ in noted] == [0] * 20
    assert len({after for _, after in noted}) == 1


@pytest.mark.parametrize("way", ["perform_now", "caller_runs", "within a job"])
def test_the_callers_connection_is_left_alone(db, way):
    """A run performed in the caller's thread goes on with the caller's connection and its transaction."""
    seen = db.call(
        """
        gate = Gate()

        @job(workers=1, max_queue=1, when_full="caller_runs")
        def write(text):
            if text == "busy":
                return gate()
            Entry.objects.create(text=text)
            return in_transaction()

        def in_transaction():
            return [id(connection.connection), connection.in_atomic_block, bool(connection.queries)]

        def enqueue():
            if way != "caller_runs":
                return write.perform_now("inner")
            busy = write.perform_async("busy")
            gate.entered()
            waits = write.perform_async("waits")
            run = write.perform_async("inner")
            gate.open()
            return run.result(WAIT)

        def outer():
            "Roll back what a job has written in the transaction of its caller."
            try:
                with transaction.atomic():
                    Entry.objects.create(text="outer")
                    before = in_transaction()
                    inside = enqueue()
                    assert Entry.objects.count() >= 2
                    raise LookupError
            except LookupError:
                return [before, inside, in_transaction()]

        with override_settings(DEBUG=True), database(CONN_MAX_AGE=60):
            return [outer() if way != "within a job" else job(outer).perform_async().result(WAIT),
                    drain(WAIT), sorted(Entry.objects.values_list("text", flat=True))]
        """,
        way=way,
    )

    (before, inside, after), drained, texts = seen
    assert before[1:] == inside[1:] == [True, True]
    assert before == inside
    assert after == [before[0], False, True]
    assert drained
    assert texts == (["waits"] if way == "caller_runs" else [])


def test_the_asynchronous_orm_uses_the_connection_of_the_workers_thread(db):
    """An async perform opens its connections in the worker's thread, where they are seen to, and in no other."""
    seen = db.call("""
        class Write(Job, workers=4):
            async def perform(self, number):
                await Entry.objects.acreate(text=str(number))
                return [await Entry.objects.filter(text=str(number)).acount(), threading.current_thread().name]

        with created() as threads:
            runs = [Write.perform_async(number) for number in range(50)]
            results = [run.result(WAIT) for run in runs]

        return {
            "counts": sorted({count for count, _ in results}),
            "made by workers": all(name.startswith(_threads.NAME) for name in threads),
            "made": len(threads),
            "left open": open_connections(),
        }
    """)

    assert seen == {"counts": [1], "made by workers": True, "made": 50, "left open": 0}


def test_perform_now_of_an_async_job_on_an_event_loop_leaves_no_connection(db):
    """There it has a thread of its own, and that one closes what it has opened."""
    seen = db.call("""
        class Write(Job):
            async def perform(self):
                await Entry.objects.acreate(text="x")

        async def view():
            Write.perform_now()

        asyncio.run(view())
        return [open_connections(), Entry.objects.count()]
    """)

    assert seen == [0, 1]


LEFT = {
    "an atomic block": "transaction.atomic().__enter__()",
    "autocommit off": "transaction.set_autocommit(False)",
    "a transaction of raw SQL": "connection.cursor().execute('BEGIN')",
}


@pytest.mark.parametrize("max_age", [0, 60])
@pytest.mark.parametrize("left", LEFT)
def test_a_transaction_left_open_is_rolled_back_before_the_next_run(db, left, max_age):
    """What a job forgets to commit is gone, and the next job on its thread begins outside of any transaction."""
    seen = db.call(
        """
        @job
        def leave():
            exec(left)
            Entry.objects.create(text="left")
            return threading.get_ident()

        @job
        def write():
            Entry.objects.create(text="next")
            return threading.get_ident()

        with override_settings(INPROC_JOBS_MAX_THREADS=1), database(CONN_MAX_AGE=max_age):
            same_thread = leave.perform_async().result(WAIT) == write.perform_async().result(WAIT)
            return [same_thread, list(Entry.objects.values_list("text", flat=True)), logged]
        """,
        left=LEFT[left],
        max_age=max_age,
    )

    same_thread, texts, logged = seen
    assert same_thread
    assert texts == ["next"]
    if left == "an atomic block":
        assert len(logged) == 1
        assert "left a transaction of the database 'default' open" in logged[0]


@pytest.mark.parametrize("max_age", [0, 60])
def test_a_broken_transaction_does_not_reach_the_next_run(db, max_age):
    """An error in the midst of a transaction, caught or not, is the job's own trouble."""
    texts = db.call(
        """
        @job
        def fall(caught):
            with transaction.atomic():
                Entry.objects.create(text="broken")
                try:
                    connection.cursor().execute("SELECT nonsense")
                except DatabaseError:
                    if not caught:
                        raise

        @job
        def write(text):
            Entry.objects.create(text=text)

        with override_settings(INPROC_JOBS_MAX_THREADS=1), database(CONN_MAX_AGE=max_age):
            for caught in (False, True):
                fall.perform_async(caught).wait(WAIT)
                write.perform_async(str(caught)).result(WAIT)
            return sorted(Entry.objects.exclude(text="broken").values_list("text", flat=True))
        """,
        max_age=max_age,
    )

    assert texts == ["False", "True"]


def test_a_job_interrupted_in_a_transaction_does_not_reach_the_next_run(db):
    """Wherever the interrupt strikes, the next job on the thread finds a connection that works."""
    seen = db.call("""
        @job(timeout=0.05, interruptible=True)
        def write_for_ever():
            while True:
                current_run().checkpoint()  # an interrupt that strikes a finalizer is swallowed
                with transaction.atomic():
                    Entry.objects.create(text="for ever")

        @job
        def write(number):
            Entry.objects.create(text=f"next {number}")

        import sys
        from unittest import mock

        hook = sys.unraisablehook

        def tell(trouble):
            if not isinstance(trouble.exc_value, errors.RunTimeoutError):  # of the finalizer, see above
                hook(trouble)

        hooked = mock.patch.object(sys, "unraisablehook", tell)
        with hooked, override_settings(INPROC_JOBS_MAX_THREADS=1), database(CONN_MAX_AGE=60):
            for number in range(15):
                write_for_ever.perform_async().wait(WAIT)
                write.perform_async(number).result(WAIT)
            return Entry.objects.filter(text__startswith="next").count()
    """)

    assert seen == 15


def test_what_a_receiver_opens_ends_with_the_thread(db):
    """A receiver of a signal is called outside of any attempt; its connection is closed by the next or the last."""
    seen = db.call("""
        @job(workers=1)
        def nothing():
            pass

        def note(job, **extra):
            Entry.objects.create(text="done")

        with connected(signals.job_succeeded, note):
            for _ in range(3):
                nothing.perform_async().result(WAIT)
            at_most_one = open_connections() <= 1 if connection.vendor == "sqlite" else None
            inproc_jobs.shutdown(WAIT)

        return [at_most_one, open_connections(), Entry.objects.count()]
    """)

    assert seen[0] is not False
    assert seen[1:] == [0, 3]


def test_a_job_may_close_and_lose_its_connection(db):
    """What a job does to its connection is no trouble afterwards."""
    logged_lines = db.call("""
        @job
        def close():
            Entry.objects.count()
            connection.connection.close()

        @job
        def forget():
            Entry.objects.count()
            connection.close()

        with override_settings(INPROC_JOBS_MAX_THREADS=1), database(CONN_MAX_AGE=60):
            for one in (close, forget, close):
                one.perform_async().result(WAIT)
            return logged
    """)

    assert logged_lines == []

"""Enqueues that wait for a transaction of Django's: with real databases, and in Django's own test cases."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import pytest
from django_site import Site

# What each piece of code begins with: a job that tells whether it finds what the transaction has written.
BEGIN = """
seen = []

class Find(Job, workers=1):
    def perform(self, text, alias="default"):
        seen.append([text, Entry.objects.using(alias).filter(text=text).exists()])

def write(text, alias="default"):
    Entry.objects.using(alias).create(text=text)

def state(run):
    return [run.state, run.reason]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("commit")
    databases = {
        alias: {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / alias),
            "OPTIONS": {"init_command": "PRAGMA synchronous=OFF", "timeout": 20},
        }
        for alias in ("default", "other")
    }
    with Site(begin=BEGIN, DATABASES=databases) as site:
        yield site


@pytest.mark.parametrize(
    "enqueue",
    [
        "Find.perform_on_commit('x')",
        "Find.using(on_commit=True).perform_async('x')",
        "Find.using(priority=1).perform_on_commit('x')",
        "Waits.perform_async('x')",
        "function.perform_async('x')",
        "function.perform_on_commit('x')",
        "Waits.perform_in(0, 'x')",
        "Waits.perform_at(timezone.now(), 'x')",
    ],
)
def test_a_run_waits_for_the_commit(site, enqueue):
    """Whichever way it is said, nothing is enqueued before the commit, and then the job finds what was written."""
    before, after = site.call(
        """
        class Waits(Find, on_commit=True):
            pass

        @job(on_commit=True)
        def function(text):
            Find().perform(text)

        enqueued = []

        def note(job, **extra):
            enqueued.append(job.__name__)

        with connected(signals.job_enqueued, note):
            with transaction.atomic():
                write("x")
                run = eval(enqueue)
                assert drain(WAIT)
                before = [list(seen), list(enqueued), run.done()]
            assert run.wait(WAIT)
        return [before, [seen, len(enqueued), run.state]]
        """,
        enqueue=enqueue,
    )

    assert before == [[], [], False]
    assert after == [[["x", True]], 1, "succeeded"]


def test_a_rollback_leaves_nothing(site):
    """After a rollback no run was ever accepted: no signal, no count, no log; whoever keeps it waits for nothing."""
    seen = site.call("""
        sent = []

        def note(job, **extra):
            sent.append(extra)

        with contextlib.ExitStack() as stack:
            for name in signals.__all__:
                stack.enter_context(connected(getattr(signals, name), note))
            try:
                with transaction.atomic():
                    write("x")
                    run = Find.perform_on_commit("x")
                    raise LookupError
            except LookupError:
                pass
            assert drain(WAIT)

        try:
            run.result(WAIT)
        except errors.RunDiscardedError as error:
            reason = error.reason
        counts = inproc_jobs.stats()[Find.__job__.name]
        return [state(run), reason, run.wait(WAIT), seen, sent, logged,
                counts.discarded + counts.rejected + counts.queued, [*run.args]]
    """)

    assert seen == [["discarded", "rollback"], "rollback", True, [], [], [], 0, []]


def test_a_rollback_wakes_whoever_waits_in_another_thread(site):
    """A thread that waits for the run goes on when the transaction is rolled back."""
    seen = site.call("""
        waited = []
        inside = threading.Event()

        def wait(run):
            inside.set()
            waited.append(run.wait(WAIT))

        try:
            with transaction.atomic():
                run = Find.perform_on_commit("x")
                thread = threading.Thread(target=wait, args=(run,))
                thread.start()
                inside.wait(WAIT)
                raise LookupError
        except LookupError:
            pass
        thread.join(WAIT)
        return [waited, state(run)]
    """)

    assert seen == [[True], ["discarded", "rollback"]]


def test_a_savepoint_takes_its_own_runs_back(site):
    """What was enqueued inside of an inner atomic that is rolled back is gone, and the rest is not."""
    runs, seen = site.call("""
        with transaction.atomic():
            first = Find.perform_on_commit("first")
            try:
                with transaction.atomic():
                    inner = Find.perform_on_commit("inner")
                    raise LookupError
            except LookupError:
                pass
            last = Find.perform_on_commit("last")
        assert drain(WAIT)
        return [[state(run) for run in (first, inner, last)], seen]
    """)

    assert runs == [["succeeded", None], ["discarded", "rollback"], ["succeeded", None]]
    assert seen == [["first", False], ["last", False]]


def test_nested_blocks_wait_for_the_outermost(site):
    """An inner atomic commits nothing, and so enqueues nothing."""
    before, after = site.call("""
        with transaction.atomic():
            with transaction.atomic():
                write("x")
                Find.perform_on_commit("x")
            assert drain(WAIT)
            before = list(seen)
        assert drain(WAIT)
        return [before, seen]
    """)

    assert (before, after) == ([], [["x", True]])


def test_another_database_is_waited_for_by_its_alias(site):
    """With database= a run waits for that one's transaction, and not for the default one's."""
    steps = site.call("""
        class Other(Find, database="other"):
            pass

        steps = []
        with transaction.atomic():
            with transaction.atomic(using="other"):
                write("x", "other")
                Find.using(database="other").perform_on_commit("x", "other")
                Other.perform_on_commit("x", "other")
                assert drain(WAIT)
                steps.append(len(seen))
            assert drain(WAIT)
            steps.append(list(seen))
        with transaction.atomic(using="other"):
            Find.perform_on_commit("not there")
            assert drain(WAIT)
            steps.append(len(seen))
        return steps
    """)

    assert steps == [0, [["x", True], ["x", True]], 3]


def test_an_unknown_database_is_an_error_at_the_enqueue(site):
    """An alias that is none raises where it is used."""
    error = site.call("""
        try:
            Find.using(database="nowhere").perform_on_commit("x")
        except Exception as error:
            return type(error).__name__
    """)

    assert error == "ConnectionDoesNotExist"


def test_outside_of_a_transaction_it_is_enqueued_at_once(site):
    """Without a transaction there is nothing to wait for, and no connection is opened to find that out."""
    seen = site.call("""
        @job
        def nothing():
            pass

        with created() as threads:
            run = nothing.perform_on_commit()
            unconnected = run.wait(WAIT) and len(threads)
            Entry.objects.count()
            connected = nothing.perform_on_commit().wait(WAIT)
        return [unconnected, connected]
    """)

    assert seen == [0, True]


def test_the_order_is_kept(site):
    """Runs come in as they were enqueued, each at its place among the other hooks of the transaction."""
    order, performed = site.call("""
        order = []
        performed = []

        @job(workers=1)
        def note(number):
            performed.append(number)

        def enqueued(job, run, **extra):
            order.append(["run", *run.args])

        with connected(signals.job_enqueued, enqueued):
            with transaction.atomic():
                for number in range(20):
                    note.perform_on_commit(number)
                    transaction.on_commit(lambda number=number: order.append(["hook", number]))
        assert drain(WAIT)
        return [order, performed]
    """)

    assert order == [[what, number] for number in range(20) for what in ("run", "hook")]
    assert performed == [*range(20)]


def test_a_full_queue_refuses_at_the_commit(site):
    """The error comes out of the commit, which stands; what would have been enqueued after it is not."""
    seen = site.call("""
        gate = Gate()

        @job(workers=1, max_queue=1)
        def hold():
            gate()

        hold.perform_async()
        gate.entered()
        try:
            with transaction.atomic():
                write("committed")
                runs = [hold.perform_on_commit() for _ in range(3)]
        except errors.QueueFullError as error:
            refused = error.limit
        states = [state(run) for run in runs]
        gate.open()
        assert drain(WAIT)
        gc.collect()
        return [refused, states[:2], runs[0].state, runs[2].wait(WAIT), state(runs[2]),
                Entry.objects.filter(text="committed").count()]
    """)

    assert seen == [
        1,
        [["queued", None], ["discarded", "queue_full"]],
        "succeeded",
        True,
        ["discarded", "rollback"],
        1,
    ]


def test_a_delay_counts_from_the_enqueue(site):
    """perform_in waits for the commit and then for what is left of its delay."""
    seen = site.call("""
        with transaction.atomic():
            write("x")
            late = Find.using(on_commit=True).perform_in(3600, "x")
            soon = Find.using(on_commit=True).perform_in(0.01, "x")
            counts = inproc_jobs.stats()[Find.__job__.name].scheduled
            before = [late.state, soon.state]
        after = late.state
        assert soon.wait(WAIT)
        return [counts, before, after, soon.state, late.cancel(), late.state, seen]
    """)

    assert seen == [0, ["queued", "queued"], "scheduled", "succeeded", True, "cancelled", [["x", True]]]


@pytest.mark.parametrize("enqueue", ["perform_async('x')", "perform_in(3600, 'x')"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_run_can_be_cancelled_before_the_commit(site, end, enqueue):
    """It is never performed, and has ended as soon as the transaction has."""
    asked, state, waited, performed, sent = site.call(
        """
        sent = []

        def note(job, **extra):
            sent.append("cancelled")

        waits = Find.using(on_commit=True)
        with connected(signals.job_cancelled, note):
            with transaction.atomic():
                run = eval(f"waits.{enqueue}")
                asked = run.cancel()
                transaction.set_rollback(end == "rollback")
            waited = run.wait(WAIT)
        assert drain(WAIT)
        return [asked, state(run), waited, seen, sent]
        """,
        end=end,
        enqueue=enqueue,
    )

    assert (asked, waited, performed) == (True, True, [])
    assert state == (["cancelled", None] if end == "commit" else ["discarded", "rollback"])
    assert sent == (["cancelled"] if end == "commit" else [])


def test_waiting_inside_the_transaction_is_an_error(site):
    """wait() there would wait for the end of the block that it stands in; with a limit it comes back."""
    seen = site.call("""
        said = []
        with transaction.atomic():
            run = Find.perform_on_commit("x")
            for wait in (run.wait, run.result):
                try:
                    wait()
                except errors.DeadlockError as error:
                    said.append("commits: wait for it afterwards" in str(error))
            said.append(run.wait(0.01))
        said.append(run.wait())
        return said
    """)

    assert seen == [True, True, False, True]


def test_manual_transactions_are_refused(site):
    """With autocommit off Django cannot tell when a transaction commits, and says so."""
    error = site.call("""
        Entry.objects.count()
        transaction.set_autocommit(False)
        try:
            Find.perform_on_commit("x")
        except transaction.TransactionManagementError:
            return "refused"
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
    """)

    assert error == "refused"


def test_a_transaction_that_a_job_leaves_open_is_a_rollback(site):
    """A run that waits for it ends as one whose transaction was rolled back, as soon as the job has."""
    seen = site.call("""
        @job
        def leave():
            transaction.atomic().__enter__()
            return Find.perform_on_commit("x")

        run = leave.perform_async().result(WAIT)
        return [run.wait(WAIT), state(run), seen]
    """)

    assert seen == [True, ["discarded", "rollback"], []]


def test_atomic_requests_enqueue_after_the_view(site):
    """Under ATOMIC_REQUESTS a run enqueued in a view starts when the view has returned, and not when it has raised."""
    seen = site.call("""
        from django.http import HttpResponse
        from django.urls import path

        def view(request, fails):
            write(f"view {fails}")
            Find.perform_on_commit(f"view {fails}")
            assert drain(WAIT)
            before.extend(seen)
            if fails:
                raise LookupError
            return HttpResponse()

        before = []
        with override_settings(ROOT_URLCONF=(path("<int:fails>", view),), ALLOWED_HOSTS=["*"]):
            with database(ATOMIC_REQUESTS=True):
                statuses = [Client(raise_request_exception=False).get(f"/{fails}").status_code for fails in (1, 0)]
                assert drain(WAIT)
        return [statuses, before, seen]
    """)

    assert seen == [[500, 200], [], [["view 0", True]]]


# The warning under DEBUG.

WARN = """
import warnings
from inproc_jobs.django.db import EnqueuedInTransactionWarning

@contextlib.contextmanager
def warned(debug=True, action="default"):
    with override_settings(DEBUG=debug), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        yield caught
        assert drain(WAIT)

def shown(caught):
    return [[str(one.message), one.filename, one.category is EnqueuedInTransactionWarning] for one in caught]
"""


def test_an_enqueue_inside_a_transaction_is_warned_about_once_for_each_place(site):
    """Under DEBUG each place in the code that enqueues before the commit is named once."""
    caught = site.call(
        WARN
        + """
with warned() as caught:
    with transaction.atomic():
        for _ in range(5):
            Find.perform_async("x")
        with transaction.atomic():
            Find.perform_async("y")
    Find.perform_async("x")
return [shown(caught), [one.lineno for one in caught]]
"""
    )

    (first, second), (line, other) = caught
    assert first == second
    assert first[1:] == ["<the test>", True]
    assert first[0].startswith(
        "snippet.snippet.<locals>.Find is enqueued inside a transaction of the database 'default'"
    )
    assert first[0].endswith("Use perform_on_commit(...) or on_commit=True.")
    assert other == line + 2


def test_the_warning_names_the_other_database(site):
    """In a transaction of another database it says how to wait for that one, even to who waits for the default one."""
    caught = site.call(
        WARN
        + """
with warned() as caught:
    with transaction.atomic(using="other"):
        Find.perform_on_commit("x")
return shown(caught)
"""
    )

    assert len(caught) == 1
    assert caught[0][0].endswith("Use perform_on_commit(...) or on_commit=True with database='other'.")


@pytest.mark.parametrize(
    "enqueue",
    [
        "Find.perform_on_commit('x')",
        "Find.perform_now('x')",
        "Find.using(database='other').perform_on_commit('x')",
    ],
)
def test_what_is_right_is_not_warned_about(site, enqueue):
    """Neither a run that waits for its commit nor one that is performed at once is enqueued too early."""
    caught = site.call(
        WARN
        + """
with warned(action="always") as caught:
    with transaction.atomic(using="other" if "other" in enqueue else "default"):
        eval(enqueue)
return shown(caught)
""",
        enqueue=enqueue,
    )

    assert caught == []


def test_no_one_is_warned_without_debug(site):
    """In production an enqueue costs nothing more."""
    seen = site.call(
        WARN
        + """
with warned(debug=False, action="always") as caught:
    receivers = len(signals.job_enqueued.receivers)
    with transaction.atomic():
        Find.perform_async("x")
with override_settings(DEBUG=True):
    watched = len(signals.job_enqueued.receivers)
return [shown(caught), receivers, watched]
"""
    )

    assert seen == [[], 0, 1]


@pytest.mark.skipif(version("django") < "6", reason="django.tasks came with Django 6.0")
def test_the_warning_names_the_place_that_enqueues_a_task(site):
    """It is the line of the site's own code, and none of django.tasks."""
    caught = site.call(
        WARN
        + """
errands = types.ModuleType("errands")
exec("from django.tasks import task\\n@task\\ndef errand(): pass", vars(errands))
with override_settings(TASKS={"default": {"BACKEND": "inproc_jobs.django.tasks.InprocBackend"}}), warned() as caught:
    with transaction.atomic():
        vars(errands)["errand"].enqueue()
return shown(caught)
"""
    )

    assert [filename for _, filename, _ in caught] == ["<the test>"]


# Django's own test cases.


def test_django_test_cases_execute_what_they_capture(site):
    """In a TestCase nothing commits: captureOnCommitCallbacks(execute=True) enqueues, and nothing else does."""
    failures, states = site.call("""
        kept = []

        class Cases(TestCase):
            databases = {"default", "other"}

            def test_executes(self):
                with self.captureOnCommitCallbacks(execute=True) as callbacks:
                    run = nothing.perform_on_commit(1)
                    self.assertFalse(run.done())
                self.assertEqual(len(callbacks), 1)
                self.assertEqual(run.result(WAIT), 1)

            def test_executes_for_the_other_database(self):
                with self.captureOnCommitCallbacks(using="other", execute=True):
                    run = nothing.using(database="other").perform_on_commit(1)
                self.assertEqual(run.result(WAIT), 1)

            def test_captures(self):
                with self.captureOnCommitCallbacks() as callbacks:
                    run = nothing.perform_on_commit(1)
                self.assertFalse(run.done())
                callbacks[0]()
                self.assertEqual(run.result(WAIT), 1)
                callbacks[0]()
                self.assertEqual(run.attempt, 1)

            def test_does_nothing(self):
                kept.append(nothing.perform_on_commit(1))

            def test_is_not_warned_about(self):
                with override_settings(DEBUG=True):
                    nothing.perform_async(1).result(WAIT)
                    with self.captureOnCommitCallbacks(execute=True):
                        nothing.perform_on_commit(1)

        @job
        def nothing(number):
            return number

        return [run_cases(Cases), [state(run) for run in kept]]
    """)

    assert failures == []
    assert states == [["discarded", "rollback"]]


def test_transaction_test_cases_commit(site):
    """In a TransactionTestCase a commit is one, and the job finds in the test's database what was written."""
    failures, seen = site.call("""
        class Cases(TransactionTestCase):
            def test_commits(self):
                with transaction.atomic():
                    write("x")
                    run = Find.perform_on_commit("x")
                run.result(WAIT)
                inproc_jobs.shutdown(WAIT)  # with the database in memory still there, as between the tests of a suite

        return [run_cases(Cases), seen]
    """)

    assert failures == []
    assert seen == [["x", True]]

"""What users write and call: the class, the decorator, and the ways to enqueue."""

from __future__ import annotations

import functools
import gc
import pickle
import threading
import weakref

import pytest

from inproc_jobs import Discard, Job, Retry, RunState, current_run, drain, job, stats
from inproc_jobs.errors import RunDiscardedError

WAIT = 10.0  # seconds


class Mail(Job):
    def perform(self, to, subject="Hello", /, *copies, urgent=False, **headers):
        return to, subject, copies, urgent, headers


@job
def thumbnail(path, *, size=64):
    """Draw it small."""
    return path, size


# Arguments.


def test_arguments_arrive_as_they_were_given():
    """Positional, keyword, starred: perform gets what the enqueue got."""
    run = Mail.perform_async("ada", "Hi", "bob", "eve", urgent=True, reply="no")

    assert run.result(WAIT) == ("ada", "Hi", ("bob", "eve"), True, {"reply": "no"})
    assert Mail.perform_async("ada").result(WAIT) == ("ada", "Hello", (), False, {})
    assert thumbnail.perform_async("a.png", size=8).result(WAIT) == ("a.png", 8)


class Strict(Job):
    def perform(self, to, *, subject):
        return to, subject


WRONG = [((), {}), (("a",), {}), (("a", "b"), {"subject": "s"}), (("a",), {"subject": "s", "cc": 1}), ((), {"to": "a"})]


@pytest.mark.parametrize(("args", "kwargs"), WRONG)
@pytest.mark.parametrize(
    "enqueue",
    [
        Strict.perform_async,
        Strict.perform_now,
        functools.partial(Strict.perform_in, 1),
        Strict.using(priority=1).perform_async,
        Strict.using(priority=1).perform_now,
    ],
    ids=["async", "now", "in", "using async", "using now"],
)
def test_arguments_that_do_not_fit_are_an_error_at_the_enqueue(enqueue, args, kwargs):
    """A call that perform would refuse is a TypeError in the caller, that names the job; nothing is accepted."""
    before = stats()[Strict.__job__.name]

    with pytest.raises(TypeError, match=r"Strict\.perform"):
        enqueue(*args, **kwargs)

    assert stats()[Strict.__job__.name] == before


def test_arguments_of_a_function_are_checked_too():
    """@job functions are checked against their own parameters, with their own name."""
    with pytest.raises(TypeError, match="thumbnail"):
        thumbnail.perform_async()
    with pytest.raises(TypeError, match="colour"):
        thumbnail.perform_async("a.png", colour=1)


def test_defaults_are_not_taken_over_by_the_check():
    """The check calls nothing of the user's and evaluates no default."""

    class Odd(Job):
        def perform(self, _given=(), __private=1, self_=2, cls=3, *, lambda_=None):
            return _given, __private, self_, cls, lambda_

    assert Odd.perform_async(cls=4).result(WAIT) == ((), 1, 2, 4, None)
    assert Odd.perform_async(1, 2, 3, 4, lambda_=5).result(WAIT) == (1, 2, 3, 4, 5)


def test_a_decorated_perform_is_checked_against_what_it_wraps():
    """functools.wraps keeps the signature, so the check sees the real parameters."""

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return "logged", function(*args, **kwargs)

        return wrapper

    class Wrapped(Job):
        @logged
        def perform(self, number):
            return number

    assert Wrapped.perform_async(3).result(WAIT) == ("logged", 3)
    with pytest.raises(TypeError):
        Wrapped.perform_async()


# What perform may be.


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_a_static_or_class_method_is_refused(kind):
    """Perform must be a plain method; said when the class is made, with its name."""
    with pytest.raises(TypeError, match=rf"Refused.*plain method.*{kind.__name__}"):

        class Refused(Job):
            @kind
            def perform(*args):
                pass


def test_a_generator_is_refused():
    """A generator would never run: refused for functions, methods and async ones."""
    with pytest.raises(TypeError, match=r"Refused.*generator"):

        class Refused(Job):
            def perform(self):
                yield 1

    with pytest.raises(TypeError, match=r"Also.*generator"):

        class Also(Job):
            async def perform(self):
                yield 1

    with pytest.raises(TypeError, match=r"function.*generator"):

        @job
        def function():
            yield 1


@pytest.mark.parametrize(
    "perform",
    [5, None, "perform", property(lambda self: 1), Strict, functools.partial(print)],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_perform_that_is_no_method_is_refused(perform):
    """Anything else that stands at perform's place is a TypeError that names the class."""
    with pytest.raises(TypeError, match=r"Refused.*perform"):
        type("Refused", (Job,), {"perform": perform})


@pytest.mark.parametrize("function", [5, None, "name", int, Strict, staticmethod(len)], ids=repr)
def test_the_decorator_refuses_what_is_no_function(function):
    """@job on anything but a function says what to do instead."""
    if function is None:
        assert callable(job(function))  # as job() with no function yet
        return
    with pytest.raises(TypeError, match="takes a function"):
        job(function)


class Callable:
    def __call__(self, number):
        return number


@pytest.mark.parametrize("function", [functools.partial(int, base=2), Callable()], ids=["partial", "object"])
def test_the_decorator_takes_or_refuses_a_callable_object_cleanly(function):
    """What has no name of its own is a job under the name it is given, or a clean TypeError."""
    try:
        made = job(name="a callable")(function)
    except TypeError as error:
        assert "function" in str(error)  # noqa: PT017 - either is fine
        return
    assert made.perform_async("1").wait(WAIT)


def test_a_class_without_perform_says_so():
    """A base class of options alone cannot be enqueued, and the error says why."""

    class Base(Job, workers=3):
        pass

    for call in (Base.perform_async, Base.perform_now, Base.using().perform_async):
        with pytest.raises(TypeError, match="Base defines no perform"):
            call()


def test_job_itself_cannot_be_enqueued():
    """Job is for deriving from: to enqueue it is a TypeError that says so."""
    for call in (Job.perform_async, Job.perform_now, lambda: Job.using().perform_async()):
        with pytest.raises(TypeError, match="Job"):
            call()


def test_an_inherited_perform_is_the_subclasss_job():
    """A subclass without a perform of its own performs its parent's, under its own name and in its own queue."""

    class Letter(Strict):
        pass

    run = Letter.perform_async("a", subject="s")

    assert run.result(WAIT) == ("a", "s")
    assert run.job is Letter
    assert stats()[Letter.__job__.name].succeeded == 1


def test_a_lambda_and_a_method_of_c_are_jobs():
    """What has no signature is not checked; the worker says it."""
    double = job(name="a lambda")(lambda number: 2 * number)
    length = job(name="a function of C")(len)

    assert double.perform_async(3).result(WAIT) == 6
    assert length.perform_async("abc").result(WAIT) == 3


# The decorator.


def test_a_function_under_job_stays_a_plain_function_when_called():
    """thumbnail(p) is a plain call: no run, no thread, its own name and docstring."""
    seen = thumbnail("a.png", size=1)

    assert seen == ("a.png", 1)
    assert (thumbnail.__name__, thumbnail.__doc__) == ("thumbnail", "Draw it small.")
    assert thumbnail.__module__ == __name__
    assert repr(thumbnail) == f"<job {__name__}.thumbnail>"


def test_the_decorator_works_bare_and_with_options():
    """@job, @job() and @job(workers=1) are all fine."""

    @job
    def bare():
        return 1

    @job()
    def empty():
        return 2

    @job(workers=1, priority=3)
    def with_options():
        return 3

    assert [one.perform_async().result(WAIT) for one in (bare, empty, with_options)] == [1, 2, 3]
    assert with_options.__job__.options.priority == 3
    assert bare.__job__.name.endswith("bare")


def test_a_function_has_all_the_ways_to_enqueue():
    """perform_in, perform_at, perform_now and using, as a class has."""
    assert thumbnail.perform_in(0, "a").result(WAIT) == ("a", 64)
    assert thumbnail.perform_now("b") == ("b", 64)
    assert thumbnail.using(priority=5).perform_async("c").result(WAIT) == ("c", 64)
    assert thumbnail.using(priority=5).perform_in(0, "d").result(WAIT) == ("d", 64)
    assert "thumbnail" in repr(thumbnail.using(priority=5))


# perform_now.


def test_perform_now_goes_the_same_way_in_this_thread(record):
    """perform_now returns the value, from this thread, with signals and stats as any run."""

    class Now(Job):
        def perform(self):
            return threading.get_ident(), self.run.attempt, current_run() is self.run

    assert Now.perform_now() == (threading.get_ident(), 1, True)

    assert [name for name, _, _ in record.sent] == ["job_enqueued", "job_started", "job_succeeded"]
    assert (stats()[Now.__job__.name].succeeded, stats()[Now.__job__.name].run.count) == (1, 1)
    assert current_run() is None


@pytest.mark.parametrize("error", [ValueError, SystemExit, Retry.Later])
def test_perform_now_raises_and_does_not_retry(error, record):
    """The error comes to the caller with its traceback; no retry policy is asked."""

    class Now(Job, retry=Retry(on=(BaseException,), backoff=0)):
        def perform(self):
            raise error(3)

    with pytest.raises(error) as caught:
        Now.perform_now()

    assert [entry.name for entry in caught.traceback][-1] == "perform"
    assert [name for name, _, _ in record.sent] == ["job_enqueued", "job_started", "job_failed"]


def test_perform_now_of_a_discard_says_discarded():
    """A job that discards itself here and now is a RunDiscardedError."""

    class Now(Job):
        def perform(self):
            raise Discard("not wanted")

    with pytest.raises(RunDiscardedError, match="not wanted"):
        Now.perform_now()


def test_perform_now_inside_a_job_gives_the_outer_run_back():
    """A job that performs another one is itself again afterwards."""

    class Outer(Job):
        def perform(self):
            inner = Mail.perform_now("ada")
            return inner[0], current_run() is self.run

    assert Outer.perform_async().result(WAIT) == ("ada", True)


# Enqueuers and classes.


def test_an_enqueuer_may_be_kept_and_shared():
    """using() returns something immutable that can be used many times."""
    urgent = Mail.using(priority=100)

    assert [urgent.perform_async("ada").result(WAIT)[0] for _ in range(3)] == ["ada"] * 3
    with pytest.raises(AttributeError):
        urgent.other = 1


@pytest.mark.parametrize("used", [False, True])
def test_a_job_class_nobody_refers_to_can_be_collected(used):
    """A class made in a function, used or not, is gone after it, with its queue."""

    class Passing(Job, timeout=100, retry=Retry(backoff=0)):
        def perform(self):
            if self.run.attempt == 1:
                raise OSError

    name = Passing.__job__.name
    if used:
        assert Passing.perform_async().wait(WAIT)
        assert Passing.perform_in(0).wait(WAIT)
        assert drain(WAIT)
    seen = weakref.ref(Passing)
    del Passing

    for _ in range(200):
        gc.collect()
        if seen() is None:
            break
        threading.Event().wait(0.01)

    assert seen() is None
    assert name not in stats()


def test_a_job_function_nobody_refers_to_can_be_collected():
    """So is a function under @job."""

    @job
    def passing():
        pass

    assert passing.perform_async().wait(WAIT)
    assert drain(WAIT)
    seen = weakref.ref(passing)
    del passing

    for _ in range(200):
        gc.collect()
        if seen() is None:
            break
        threading.Event().wait(0.01)

    assert seen() is None


def test_a_kept_run_does_not_need_its_class():
    """A run that outlives its class still tells what it was."""

    class Passing(Job, name="passing through"):
        def perform(self):
            return 5

    run = Passing.perform_async()
    assert run.wait(WAIT)
    del Passing
    gc.collect()

    assert run.result() == 5
    assert "passing through" in repr(run)
    assert run.state is RunState.SUCCEEDED


def test_a_job_function_is_picklable_or_says_why():
    """A module's @job function can be pickled by its name, as the plain function could, or is refused cleanly."""
    try:
        copy = pickle.loads(pickle.dumps(thumbnail))
    except (pickle.PicklingError, TypeError, AttributeError):
        return
    assert copy is thumbnail or copy("a.png") == ("a.png", 64)


def test_a_keyword_called_self_does_not_fit():
    """perform(self, **data) takes any keyword but its own first parameter, and says so at the enqueue."""

    class Mail(Job):
        def perform(self, **data):
            return data

    with pytest.raises(TypeError, match="multiple values for argument 'self'"):
        Mail.perform_async(self=1)
    assert Mail.perform_async(other=1).result(WAIT) == {"other": 1}


def test_a_perform_that_is_no_function_is_refused():
    """What is wrong with a class is said when it is made, by name."""
    with pytest.raises(TypeError, match="perform must be a method, not 5"):

        class Five(Job):
            perform = 5


def test_a_constructor_that_needs_arguments_is_refused():
    """Each attempt makes an instance, and has nothing to give it."""
    with pytest.raises(TypeError, match="__init__ must take no arguments"):

        class Needy(Job):
            def __init__(self, address):
                self.address = address

            def perform(self):
                pass

    class Content(Job):
        def __init__(self, address="ada"):
            self.address = address

        def perform(self):
            return self.address

    assert Content.perform_async().result(WAIT) == "ada"


def test_a_job_without_a_perform_says_so():
    """A base class has nothing to perform."""
    with pytest.raises(NotImplementedError, match="Job defines no perform"):
        Job().perform()


def test_the_logger_of_a_run_takes_a_percent_sign_as_it_is(caplog):
    """Only with arguments is a message a format."""
    caplog.set_level("INFO")

    class Discount(Job, name="50%"):
        def perform(self):
            self.logger.info("100% sure")
            self.logger.info("%d%% sure", 99)

    run = Discount.perform_async()
    assert run.wait(WAIT)

    assert caplog.messages == [f"[50% {run.id}] 100% sure", f"[50% {run.id}] 99% sure"]

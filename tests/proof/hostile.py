"""Bad input at every door: what it may do, and what not.

``python tests/proof/hostile.py [examples]`` tries so many inputs at each door and says how many were taken and refused;
``python tests/proof/hostile.py fuzz [seconds]`` has atheris look for worse ones, led by the lines of the package they reach.

Whatever comes in: an error that leaves is a TypeError or ValueError that names what is wrong, in one short line of printable
text, and what was there before stays; a run ends; a log record is one line, but for the traceback's own lines, and no
character in it can forge another one; nothing grows.
"""

from __future__ import annotations

import gc
import importlib.util
import linecache
import logging
import re
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import django
import flask
from django.conf import settings as django_settings
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import inproc_jobs
from inproc_jobs import Discard, Job, Retry, Run, RunState, _runtime, configure, job, signals
from inproc_jobs._options import MODE_KEY, OPTIONS, SETTINGS, config_key
from inproc_jobs.flask import InprocJobs

WAIT = 10.0  # seconds within which a run must have ended
LINE = 4096 + 512  # bytes of a record's own line: an error's text, and what we say around it
MESSAGE = 1000  # characters of an error's text
RECORD = 512 * 1024  # bytes of a record with its traceback
MEGABYTES = 5_000_000  # characters

REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

tried: Counter[str] = Counter()
touched: list[str] = []  # what was asked of values that are none of the engine's business


# Values that behave badly.


class Untold:
    """Has no repr to speak of."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class LongTold:
    def __repr__(self) -> str:
        return "x\nERROR forged " * (MEGABYTES // 14)


class Classless:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("class")


class Liar:
    """Says that it is something else."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @property
    def __class__(self) -> Any:
        return object.__getattribute__(self, "_kind")


def _raise(*_: object) -> Any:
    raise RuntimeError("compares with nothing")


COMPARISONS = (
    "__eq__",
    "__ne__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "__bool__",
    "__repr__",
    "__str__",
    "__format__",
)
BadInt: Any = type("BadInt", (int,), dict.fromkeys((*COMPARISONS, "__int__", "__index__", "__hash__"), _raise))
BadFloat: Any = type("BadFloat", (float,), dict.fromkeys((*COMPARISONS, "__float__", "__hash__"), _raise))
BadStr: Any = type(
    "BadStr", (str,), dict.fromkeys((*COMPARISONS, "__len__", "__getitem__", "__iter__", "encode"), _raise)
)


def _touch(name: str) -> Callable[..., Any]:
    def touch(*_: object) -> Any:
        touched.append(name)
        raise RuntimeError(name)

    return touch


ASKED = ("__repr__", "__str__", "__eq__", "__hash__", "__bool__", "__len__", "__iter__", "__call__", "__reduce_ex__")
# An argument that notes whatever is asked of it.
Touchy: Any = type("Touchy", (), {**{name: _touch(name) for name in ASKED}, "__class__": property(_touch("__class__"))})


class Enqueuing:
    """Enqueues when it is collected, wherever that is."""

    def __del__(self) -> None:
        Plain.perform_async()


texts = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "one\nERROR inproc_jobs.run forged",
            "one\r\nTraceback (most recent call last):",
            "\x1b[2J\x9b31m",
            "\x00\x85\u2028\u2029",
            "\u202eright to left\u2066",
            "\ud800",
            "%s %d %(x)s {0}",
            "x" * MEGABYTES,
            "\n" * MEGABYTES,
        ]
    ),
)
numbers = st.one_of(
    st.integers(-1000, 100_000),
    st.floats(),
    st.sampled_from([0, -1, True, 2**63, 10**30, 10**400, 10**5000, -(10**5000), 1e308, -0.0]),
    st.sampled_from([Decimal("1"), Decimal("NaN"), Fraction(1, 3), 1j]),
    st.timedeltas(),
    st.sampled_from([timedelta.max, timedelta.min, timedelta(0)]),
)
objects = st.one_of(
    st.builds(Untold),
    st.builds(LongTold),
    st.builds(Classless),
    st.builds(Liar, st.sampled_from([int, bool, float, str, timedelta, datetime, type, Retry])),
    st.builds(BadInt, st.integers(-5, 5)),
    st.builds(BadFloat, st.floats(0, 5)),
    st.builds(BadStr, st.sampled_from(["raise", "real", "x", ""])),
    st.sampled_from([None, object, Job, Retry, OSError, print, len, NotImplemented, ...]),
    st.builds(object),
)
values = st.one_of(
    numbers,
    texts,
    objects,
    st.binary(),
    st.lists(numbers),
    st.sampled_from(["raise", "block", "caller_runs", "discard", "discard_oldest", "inline", "fake", "real"]),
    st.builds(Retry),
)


# What must hold.


PAST_TIMEOUT = re.compile(r" is past its timeout of \S+ s, at\n")  # followed by where it is, line by line


class Ear(logging.Handler):
    """Reads every record as a handler would write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.written: list[str] = []
        self.wrong: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message, whole = record.getMessage(), self.format(record)
        self.written.append(whole[:200])
        if record.name == "inproc_jobs._threads":
            self.wrong.append(f"a thread died: {whole[:500]}")
        line, *stack = message.split("\n") if PAST_TIMEOUT.search(message) else [message]
        if unsafe(line) or len(line.encode()) > LINE or not all(one[:2].isspace() or not one for one in stack):
            self.wrong.append(f"not one line: {message[:200]!a}")
        if any(map(unsafe, whole.split("\n"))) or len(whole.encode(errors="replace")) > RECORD:
            self.wrong.append(f"not printable, or of {len(whole)} characters: {whole[-300:]!a}")
        if whole.count("forged") and any(
            line.startswith(("ERROR inproc_jobs.run forged", "ERROR forged")) for line in whole.split("\n")
        ):
            self.wrong.append(f"forged: {whole[:300]!a}")


ear = Ear()


def unsafe(line: str) -> bool:
    """Return whether a line holds what could end it, colour it or turn it around."""
    return not line.isprintable() and any(
        unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(one) in REORDERING
        for one in line
    )


def refused(error: Exception, *names: str) -> None:
    """See that *error* is one that a user can read, about what is named."""
    tried["refused"] += 1
    text = str(error)
    assert type(error) in (TypeError, ValueError), repr(error)
    assert not unsafe(text), ascii(text[:300])
    assert len(text) <= MESSAGE, f"{len(text)} characters: {text[:300]}"
    for name in names:
        assert name in text, f"{name} is not in {text[:300]}"


def works(run: Run[Any]) -> Run[Any]:
    """See that a run ends."""
    tried["taken"] += 1
    assert run.wait(WAIT), run
    told = threading.Event()
    # Behind a word of the timer's that the run is past its timeout.
    run._queue.timer.call_soon(lambda _: told.set())
    assert told.wait(WAIT)
    return run


@contextmanager
def heard(*, times: int | None = None) -> Iterator[None]:
    """See that what is logged meanwhile is as it has to be."""
    ear.written.clear()
    yield
    assert inproc_jobs.drain(WAIT)
    wrong, ear.wrong = ear.wrong, []
    assert not wrong, wrong
    assert times is None or len(ear.written) == times, ear.written


class Plain(Job, name="plain"):
    def perform(self, *args: Any, **kwargs: Any) -> Any:
        return args


class Raising(Job, workers=1, name="raising"):
    def perform(self, make: Callable[[], BaseException]) -> None:
        raise make()


def function(*args: object) -> None:
    """Be what @job is put on."""


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "class": lambda given: type("Hostile", (Job,), {"perform": lambda self: None}, **given),
    "job": lambda given: job(**given)(function),
    "using": lambda given: Plain.using(**given),
}

DOORS: list[Callable[[], None]] = []


def door(strategy_of: Callable[..., None]) -> Callable[..., None]:
    DOORS.append(strategy_of)
    return strategy_of


@door
@given(form=st.sampled_from(sorted(FORMS)), name=st.sampled_from([*OPTIONS, "name"]), value=values)
def option(form: str, name: str, value: Any) -> None:
    """An option of a class, of a function, of a call."""
    before = {definition.name for definition in _runtime.definitions()}
    try:
        made = FORMS[form]({name: value})
    except (TypeError, ValueError) as error:
        refused(error, name)
        assert {definition.name for definition in _runtime.definitions()} <= before
        return
    if name != "on_commit":
        with heard():
            works(made.perform_async())


@door
@given(form=st.sampled_from(sorted(FORMS)), name=texts.filter(lambda name: name not in (*OPTIONS, "name")))
def unknown_option(form: str, name: str) -> None:
    """An option that does not exist."""
    try:
        FORMS[form]({name: 1})
    except TypeError as error:
        refused(error, "unknown option")
    else:
        raise AssertionError(name)


@door
@given(name=texts)
def name_of_a_job(name: str) -> None:
    """Any text as the name of a job, which every line about it shows."""
    try:

        @job(name=name)
        def fail() -> None:
            raise ValueError(name)

    except (TypeError, ValueError) as error:
        refused(error, "name")
        return
    with heard(times=1):
        works(fail.perform_async())


@door
@given(name=st.sampled_from(SETTINGS), value=values)
def setting(name: str, value: Any) -> None:
    """A setting of the process."""
    before = {one: getattr(_runtime.settings(), one) for one in SETTINGS}
    try:
        configure(**{name: value})
    except (TypeError, ValueError) as error:
        refused(error, name)
        assert before == {one: getattr(_runtime.settings(), one) for one in SETTINGS}
    else:
        tried["taken"] += 1
    finally:
        configure(**before)


@door
@given(key=st.one_of(st.sampled_from([*map(config_key, SETTINGS), MODE_KEY]), texts, st.integers()), value=values)
def flask_config(key: Any, value: Any) -> None:
    """A key of Flask's configuration."""
    before = {one: getattr(_runtime.settings(), one) for one in SETTINGS}
    app = flask.Flask("hostile")
    app.config[key] = value
    try:
        InprocJobs(app)
    except (TypeError, ValueError) as error:
        refused(error, "INPROC_JOBS_")
        assert before == {one: getattr(_runtime.settings(), one) for one in SETTINGS}
        assert "inproc_jobs" not in app.extensions
    else:
        tried["taken"] += 1
    finally:
        inproc_jobs.testing.use("real")
        configure(**before)


@door
@given(name=st.sampled_from(SETTINGS), value=values)
def django_setting(name: str, value: Any) -> None:
    """A setting of Django's, which its system check speaks of."""
    from inproc_jobs.django import conf

    before = {one: getattr(_runtime.settings(), one) for one in SETTINGS}
    with override_settings(**{config_key(name): value}):
        trouble = conf.find_trouble()
        if trouble is not None:
            refused(TypeError(trouble), config_key(name))
            assert before == {one: getattr(_runtime.settings(), one) for one in SETTINGS}
    assert before == {one: getattr(_runtime.settings(), one) for one in SETTINGS}


@door
@given(field=st.sampled_from(["attempts", "on", "give_up_on", "backoff", "backoff_max", "jitter"]), value=values)
def retry_policy(field: str, value: Any) -> None:
    """A field of a retry policy."""
    try:
        repr(Retry(**{field: value}))
    except (TypeError, ValueError) as error:
        refused(error, field)


@door
@given(
    value=st.one_of(values, st.datetimes(), st.datetimes(timezones=st.timezones())),
    way=st.sampled_from(["in", "at", "later", "drain", "shutdown"]),
)
def time_to_wait(value: Any, way: str) -> None:
    """A delay, a moment, a timeout."""
    try:
        if way == "in":
            Plain.perform_in(value).cancel()
        elif way == "at":
            Plain.perform_at(value).cancel()
        elif way == "later":
            Retry.Later(value)
        elif value is not None:
            getattr(inproc_jobs, way)(value)
    except (TypeError, ValueError) as error:
        refused(
            error, "timeout" if way in ("drain", "shutdown") else f"perform_{way}" if way != "later" else "Retry.Later"
        )
    else:
        tried["taken"] += 1
    finally:
        inproc_jobs.restart()


@door
@given(value=st.one_of(values, st.datetimes(timezones=st.just(UTC))), answers=st.booleans())
def answer_of_a_policy(value: Any, answers: bool) -> None:
    """What a retry policy answers, or the error says of itself."""
    error = OSError()
    error.retry_after = value  # type: ignore[attr-defined]
    policy = (lambda attempt, _: value if attempt < 2 else None) if answers else Retry(attempts=2, backoff=0)
    with heard():
        run = Raising.using(retry=policy).perform_async(lambda: error)
        ends_or_waits(run)


@door
@given(value=values, gives=st.booleans())
def later_in_its_own_way(value: Any, gives: bool) -> None:
    """A Retry.Later whose delay is not what it was made with."""

    class Soon(Retry.Later):
        def __init__(self) -> None:
            if gives:
                self.delay = value

    with heard():
        ends_or_waits(Raising.perform_async(Soon))
        works(Plain.perform_in(0.001))


def ends_or_waits(run: Run[Any]) -> None:
    """See that a run ends, or waits for an attempt of which nobody knows when it comes."""
    deadline = time.monotonic() + WAIT
    while not run.wait(0.002) and run.state is not RunState.RETRYING:
        assert time.monotonic() < deadline, run
    run.cancel()
    works(run)


@door
@given(value=st.one_of(st.builds(Touchy), st.builds(Enqueuing), objects, texts), fails=st.booleans())
def argument(value: Any, fails: bool) -> None:
    """An argument and a return value, which nobody is to look at."""
    touched.clear()
    with heard(times=int(fails)):
        if fails:
            works(Plain.using(retry=None).perform_async(value, other=value))
            run = works(Raising.perform_async(lambda: ValueError(value)))
        else:
            run = works(Plain.perform_async(value, other=value))
            assert run.result(0)[0] is value
        repr(run)
    if type(value) is Touchy and not fails:
        assert not touched


def metaclass_of(raised: bool) -> Any:
    def get(cls: type, name: str) -> Any:
        if raised and name in ("__qualname__", "__name__", "__module__"):
            raise RuntimeError(name)
        return type.__getattribute__(cls, name)

    return type("Meta", (type,), {"__getattribute__": get})


METAS = (metaclass_of(False), metaclass_of(True))
TEXTS = ("__str__", "__repr__")


@st.composite
def errors(draw: st.DrawFn) -> Callable[[], BaseException]:
    """Return what makes an error, whose class and text are bad."""
    text = draw(texts)
    said = draw(st.one_of(st.none(), objects, st.just(BadStr("bad")), st.integers()))
    base = draw(
        st.sampled_from([ValueError, OSError, Discard, SystemExit, KeyboardInterrupt, BaseException, AssertionError])
    )
    name = draw(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=50))
    body: dict[str, Any] = {}
    for method in draw(st.sets(st.sampled_from(TEXTS))):
        body[method] = lambda self: said
    for attribute in draw(
        st.sets(st.sampled_from(["__cause__", "__context__", "__traceback__", "args", "__notes__", "__class__"]))
    ):
        body[attribute] = property(_raise)
    kind = draw(st.sampled_from(METAS))(name, (base,), body)
    notes = draw(st.lists(texts, max_size=3)) * draw(st.sampled_from([1, 1, 300]))
    chained = draw(st.booleans())
    grouped = draw(st.booleans())

    def make() -> BaseException:
        error: BaseException = kind(text)
        for note in notes if "__notes__" not in body else ():
            BaseException.add_note(error, note)
        if chained and "__cause__" not in body:
            error.__cause__ = ValueError(text)
        return BaseExceptionGroup(text, [error, ValueError(text)]) if grouped else error

    return make


@door
@given(make=errors())
def error_of_a_job(make: Callable[[], BaseException]) -> None:
    """An error, or a reason to discard, that says anything."""
    with heard(times=1):
        run = works(Raising.perform_async(make))
        assert run.state in (RunState.FAILED, RunState.DISCARDED), run


@door
@given(name=texts, line=texts)
def code(name: str, line: str) -> None:
    """Code of a template, whose file has any name and holds any text."""
    made: dict[str, Any] = {}
    try:
        exec(compile("def fail():\n    raise ValueError('x')\n", name.replace("\0", ""), "exec"), made)
    except UnicodeEncodeError:
        return
    linecache.cache[name] = (len(line), None, ["def fail():\n", f"    raise ValueError('x') # {line}\n"], name)
    try:
        with heard(times=1):
            works(job(name="template")(made["fail"]).perform_async())
    finally:
        linecache.cache.pop(name, None)


@door
@given(
    name=st.sampled_from(["enqueued", "started", "succeeded", "failed"]),
    value=objects,
    asked=st.sampled_from(["__qualname__", "__module__", "nothing"]),
)
def receiver(name: str, value: Any, asked: str) -> None:
    """A receiver that raises, gives anything, and has no name to be logged by."""

    class Proxy:
        def __getattr__(self, name: str) -> Any:
            if name == asked:
                raise RuntimeError("x\nERROR forged")
            raise AttributeError(name)

        def __call__(self, sender: Any, **extra: Any) -> Any:
            if asked == "nothing":
                return value
            raise RuntimeError("x\nERROR forged")

    proxy = Proxy()
    signal = getattr(signals, f"job_{name}")
    signal.connect(proxy)
    try:
        with heard():
            works(Plain.perform_async())
            works(Raising.perform_async(ValueError))
    finally:
        signal.disconnect(proxy)


@door
@given(
    where=st.sampled_from(["factory", "filter", "handler"]),
    error=st.sampled_from([ValueError, SystemExit, MemoryError]),
)
def logging_that_raises(where: str, error: type[BaseException]) -> None:
    """A logging that breaks does not break a run."""

    def fail(*_: object, **__: object) -> Any:
        raise error("x\nERROR forged")

    logger = logging.getLogger("inproc_jobs.run")
    handler = logging.Handler()
    handler.emit = fail  # type: ignore[method-assign]
    factory = logging.getLogRecordFactory()
    if where == "factory":
        logging.setLogRecordFactory(fail)
    elif where == "filter":
        logger.addFilter(fail)
    else:
        logger.addHandler(handler)
    try:
        with heard():
            works(Raising.perform_async(ValueError))
    finally:
        logging.setLogRecordFactory(factory)
        logger.removeFilter(fail)
        logger.removeHandler(handler)


# All of it.


def set_up() -> None:
    """Have a Django site and a log."""
    if not django_settings.configured:
        django_settings.configure(INSTALLED_APPS=["inproc_jobs.django"])
        django.setup()
    logger = logging.getLogger("inproc_jobs")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(ear)
    logging.raiseExceptions = False
    importlib.import_module("inproc_jobs.testing")


def knock(at: Callable[[], None], examples: int) -> None:
    """Try so many inputs at one door."""
    settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(at)()


def growth(rounds: int) -> int:
    """Return by how many blocks of memory so many rounds of trouble have made the process grow."""

    def trouble() -> None:
        for make in (lambda: ValueError("x" * 10_000), lambda: Discard("\n" * 10_000), lambda: SystemExit(Untold())):
            Raising.perform_async(make).wait(WAIT)
        for form in ("class", "job", "using"):
            try:
                FORMS[form]({"priority": "x\n" * 1000})
            except TypeError:
                pass
        FORMS["class"]({"workers": 3})
        Plain.perform_in(1000).cancel()

    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(100):
        trouble()
    ear.written.clear()
    before = blocks()
    for _ in range(rounds):
        trouble()
        ear.written.clear()
    return blocks() - before


def fuzz(seconds: int) -> int:
    """Have atheris look for inputs, at all doors in turn."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install --group fuzz (it has wheels for Linux on x86-64)")
        return 0
    atheris: Any = importlib.import_module("atheris")
    for module in [module for name, module in sys.modules.items() if name.startswith("inproc_jobs")]:
        for value in vars(module).values():
            if type(value) is type(fuzz) and value.__module__ == module.__name__:
                atheris.instrument_func(value)

    def one_input(data: bytes) -> None:
        if data:
            DOORS[data[0] % len(DOORS)].hypothesis.fuzz_one_input(data[1:])  # type: ignore[attr-defined]

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=4096"], one_input)
    atheris.Fuzz()
    return 0


def main(arguments: list[str]) -> int:
    set_up()
    if arguments[:1] == ["fuzz"]:
        return fuzz(int(arguments[1]) if arguments[1:] else 60)
    examples = int(arguments[0]) if arguments else 1000
    broken = 0
    for at in DOORS:
        started = time.monotonic()
        tried.clear()
        try:
            knock(at, examples)
            verdict = "holds"
        except BaseException as error:
            verdict = f"BREAKS: {type(error).__name__}: {str(error)[:2000]}\n{chr(10).join(getattr(error, '__notes__', []))[:2000]}"
            broken += 1
        print(
            f"{at.__name__}: {tried['taken']} taken, {tried['refused']} refused, {time.monotonic() - started:.1f} s: {verdict}",
            flush=True,
        )
    rounds = min(1000, 10 * examples)
    blocks = growth(rounds)
    print(f"growth in {rounds} rounds: {blocks} blocks", flush=True)
    inproc_jobs.shutdown(WAIT)
    return 1 if broken or blocks > 500 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

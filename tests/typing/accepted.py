"""Uses that a type checker must accept, with the types it must find."""

from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from flask import Flask

from inproc_jobs import (
    Job,
    Retry,
    Run,
    RunState,
    ShutdownReport,
    Stats,
    configure,
    drain,
    job,
    shutdown,
    signals,
    stats,
)
from inproc_jobs.asgi import App, Receive, Send, lifespan
from inproc_jobs.flask import InprocJobs
from inproc_jobs.testing import Enqueued, Fake, assert_enqueued, fake, inline, real, travel
from inproc_jobs.types import Enqueuer, JobFunction, RetryPolicy, Times, WhenFull


class MailJob(Job, workers=4, max_queue=1000, when_full="block", retry=Retry(on=(OSError,)), timeout=30):
    def perform(self, to: str, subject: str = "Hello", *, urgent: bool = False) -> int:
        self.checkpoint()
        self.logger.info("%s %s", self.run.id, self.should_stop)
        return len(to)


class AsyncJob(Job, expires_in=timedelta(minutes=1)):
    async def perform(self, number: int) -> str:
        return str(number)


class Quick(MailJob, priority=3): ...


@job
def plain(path: str) -> bytes:
    return path.encode()


@job(workers=1, retry=lambda attempt, error: attempt * 2.0)
def configured(path: str, width: int = 100) -> bytes:
    return path.encode()


assert_type(MailJob.perform_async("a"), Run[int])
assert_type(MailJob.perform_async("a", subject="b", urgent=True).result(), int)
assert_type(MailJob.perform_in(60, "a"), Run[int])
assert_type(MailJob.perform_in(timedelta(minutes=1), "a", "b"), Run[int])
assert_type(MailJob.perform_at(datetime.now(UTC), "a"), Run[int])
assert_type(MailJob.perform_now("a"), int)
assert_type(MailJob.using(priority=5, retry=None).perform_async("a"), Run[int])
assert_type(MailJob.using(when_full="discard").perform_now("a"), int)
assert_type(Quick.perform_async("a").state, RunState)
assert_type(AsyncJob.perform_async(1).result(5), str)
assert_type(plain("a"), bytes)
assert_type(plain.perform_async("a"), Run[bytes])
assert_type(configured.perform_async("a", width=3).result(), bytes)
assert_type(configured.using(timeout=3.0).perform_in(1, "a"), Run[bytes])
assert_type(stats(), dict[str, Stats])
assert_type(drain(), bool)
configure(shutdown_timeout=20, max_threads=4)


async def waits() -> None:
    assert_type(await MailJob.perform_async("a"), int)
    assert_type(await AsyncJob.perform_async(1), str)


assert_type(MailJob.perform_on_commit("a"), Run[int])
assert_type(MailJob.perform_async("a").job_name, str)
assert_type(MailJob.using(on_commit=True, database="other").perform_async("a"), Run[int])
assert_type(shutdown(1), ShutdownReport)


def on_failed(sender: object, run: Run[int], error: BaseException, **extra: object) -> None: ...


signals.job_failed.connect(on_failed)

with fake() as jobs:
    assert_type(jobs, Fake)
    assert_type(jobs.enqueued(MailJob), list[Enqueued])
    assert_type(assert_enqueued(MailJob, "a", delay=60), Enqueued)
    assert_type(jobs.run_all(), list[Run[Any]])
with inline(raises=False):
    travel(timedelta(hours=1))


@real()
def decorated(number: int) -> str:
    return str(number)


assert_type(decorated(1), str)
assert_type(InprocJobs(Flask("site")), InprocJobs)


async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None: ...


assert_type(lifespan(application), App)


@job
def greet(name: str) -> str:
    return name


def greeted(greeter: Enqueuer[[str], str]) -> str:
    return greeter.perform_async("ada").result()


function: JobFunction[[str], str] = greet
greeted(function)
greeted(greet.using(priority=1))
policy: RetryPolicy = Retry(attempts=2)
when_full: WhenFull = "block"
job(retry=policy, when_full=when_full)
assert_type(stats()["greet"].wait, Times)

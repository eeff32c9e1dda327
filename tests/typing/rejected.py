"""Uses that a type checker must reject: every line that ends in ``# E``, and no other."""

from inproc_jobs import Job, Retry, Run, configure, drain, job, shutdown
from inproc_jobs.testing import fake, inline, travel, use


class MailJob(Job):
    def perform(self, to: str, subject: str = "Hello") -> int:
        return len(to)


class AsyncJob(Job):
    async def perform(self, number: int) -> str:
        return str(number)


class Derived(MailJob, workers=1): ...


@job
def thumbnail(path: str, *, width: int = 100) -> bytes:
    return path.encode()


MailJob.perform_async()  # E
MailJob.perform_async(1)  # E
MailJob.perform_async("a", "b", "c")  # E
MailJob.perform_async("a", subject=3)  # E
MailJob.perform_async("a", topic="b")  # E
MailJob.perform_in("a")  # E
MailJob.perform_in("60", "a")  # E
MailJob.perform_at("now", "a")  # E
MailJob.perform_now(2)  # E
MailJob.using(priority=5).perform_async(3)  # E
MailJob.using(priority="high")  # E
MailJob.using(workers=3)  # E
MailJob.using(when_full="wait")  # E
thumbnail.perform_async(3)  # E
thumbnail.perform_async("a", 100)  # E
thumbnail.perform_in(5)  # E
thumbnail.using(timeout="3")  # E
thumbnail(3)  # E
text: str = MailJob.perform_async("a").result()  # E
configure(threads=3)  # E
Retry(attempts="5")  # E
Retry(5)  # E
drain("soon")  # E
shutdown(deadline=3)  # E
MailJob.using(retry=5)  # E
MailJob.using(expires_in="1h")  # E
MailJob.using(priority=5).perform_in("60", "a")  # E
MailJob.using(priority=5).perform_now()  # E
Derived.perform_async(1)  # E
AsyncJob.perform_async("1")  # E
AsyncJob.perform_in(5, number="1")  # E
thumbnail.using(workers=3)  # E
thumbnail.perform_now("a", height=3)  # E
number: int = AsyncJob.perform_async(1).result()  # E
length: str = MailJob.perform_now("a")  # E
image: Run[str] = thumbnail.perform_async("a")  # E


async def waits(run: Run[int]) -> tuple[str, int]:
    length: str = await run  # E
    return length, await AsyncJob.perform_async(1)  # E


class Misspelt(Job, wokers=4):  # E
    def perform(self) -> None: ...


class IllTyped(Job, workers="4"):  # E
    def perform(self) -> None: ...


class WrongPolicy(Job, when_full="wait"):  # E
    def perform(self) -> None: ...


@job(wokers=4)  # E
def misspelt() -> None: ...


@job(workers="4")  # E
def ill_typed() -> None: ...


class WrongFlag(Job, interruptible="yes"):  # E
    def perform(self) -> None: ...


class WrongRetry(Job, retry=5):  # E
    def perform(self) -> None: ...


with fake() as jobs:
    jobs.run_one().cancel()  # E
    jobs.assert_enqueued()  # E
inline(raise_=True)  # E
travel("an hour")  # E
use("threads")  # E
MailJob.perform_on_commit(1)  # E
MailJob.using(database=1)  # E

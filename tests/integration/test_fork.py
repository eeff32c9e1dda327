"""fork: a child starts empty and works for itself; what the parent accepted is done by the parent, once."""

from __future__ import annotations

import sys

import pytest
from process import HEAD, Ended, run

FORK = """
import ctypes, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12 on: a fork beside threads, which is what is tested
configure(shutdown_timeout=5.0)
parent = os.getpid()

def tell(*words):
    say("parent" if os.getpid() == parent else "child", *words)

class Told(Job, workers=2, max_queue=100_000):
    def perform(self, number, seconds=0.02):
        pause(seconds)
        tell("did", number)

def reap(child):
    for _ in range(1500):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return tell("reaped", os.waitstatus_to_exitcode(status))
        pause(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    tell("killed a child that hung")
"""

# The second as uWSGI forks, from C, with the interpreter's lock held and without Python's hooks.
FORKS = {
    "os.fork": "os.fork()",
    "C's": "ctypes.PyDLL(None).fork()",
}

# How a child may come to its end.
ENDS = {
    "exits": "sys.exit(7)",
    "drains and leaves": "inproc_jobs.drain(5); os._exit(7)",
    "waits for its run and leaves": "own.wait(5); os._exit(7)",
    "shuts down and leaves": "inproc_jobs.shutdown(); os._exit(7)",
}


def forking(script: str, *, timeout: float = 20.0) -> Ended:
    return run(script, head=HEAD + FORK, timeout=timeout)


def did(lines: list[str], who: str) -> list[int]:
    return sorted(int(line.split()[2]) for line in lines if line.startswith(f"{who} did "))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_a_child_works_for_itself(fork: str, end: str):
    """Forked beside a busy queue, the child performs its own run and none of the parent's; those are performed once."""
    ended = forking(f"""
        for number in range(20): Told.perform_async(number, 0.1)
        while inproc_jobs.stats()["__main__.Told"].busy < 2: pause(0.001)
        pause(0.05)  # nobody holds a lock then, and a fork without hooks can leave none locked in the child
        child = {fork}
        if child == 0:
            own = Told.perform_async(100)
            {end}
        for number in range(20, 30): Told.perform_async(number)
        reap(child)
    """)

    assert did(ended.lines, "parent") == list(range(30))
    assert did(ended.lines, "child") == [100]
    assert "parent reaped 7" in ended.lines
    assert (ended.status, ended.errors) == (0, "")


def test_a_child_that_enqueues_nothing_ends_at_once():
    """A child that has nothing of its own to do does not wait for what its parent has."""
    ended = forking("""
        reaped = threading.Event()

        class Held(Told, workers=2):
            def perform(self, number):
                reaped.wait(10)
                tell("did", number)

        for number in range(4): Held.perform_async(number)
        Told.perform_in(1, 4)
        while inproc_jobs.stats()["__main__.Held"].busy < 2: pause(0.001)
        child = os.fork()
        if child == 0:
            tell(inproc_jobs.stats()["__main__.Held"].queued, inproc_jobs.drain(5))
            sys.exit(7)
        reap(child)
        reaped.set()
    """)

    assert ended.lines[:2] == ["child 0 True", "parent reaped 7"]
    assert did(ended.lines, "parent") == [0, 1, 2, 3, 4]
    assert did(ended.lines, "child") == []
    assert (ended.status, ended.errors) == (0, "")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_child_stops_by_a_signal(number: str):
    """A signal to the child finishes the child's work, and it dies of the signal; the parent goes on."""
    ended = forking(f"""
        Told.perform_async(0).wait(5)
        pause(0.05)
        told, tells = os.pipe()
        child = os.fork()
        if child == 0:
            sys.stderr = open(os.devnull, "w")
            for number in range(10): Told.perform_async(100 + number, 0.1)
            os.write(tells, b"enqueued")
            for _ in range(3000): pause(0.01)  # Python acts on a Ctrl-C that strikes just before a wait after that wait
        os.read(told, 8)
        os.kill(child, signal.{number})
        reap(child)
        Told.perform_async(1)
    """)

    assert did(ended.lines, "child") == list(range(100, 110))
    assert did(ended.lines, "parent") == [0, 1]
    assert f"parent reaped {-15 if number == 'SIGTERM' else -2}" in ended.lines
    assert (ended.status, ended.errors) == (0, "")


def test_a_run_of_the_parent_in_a_child():
    """In a child, waiting for a run of the parent says what is wrong; the parent's own wait goes on."""
    ended = forking("""
        theirs, later = Told.perform_async(0, 0.5), Told.perform_in(0.5, 1)
        child = os.fork()
        if child == 0:
            for call in (theirs.wait, later.wait, lambda: theirs.result(1)):
                try:
                    call()
                except inproc_jobs.errors.WrongProcessError as error:
                    tell("told", str(os.getpid()) in str(error) and str(parent) in str(error))
            theirs.cancel(), later.cancel()
            os._exit(7)
        reap(child)
        tell("waited", theirs.wait(5), later.wait(5), theirs.state.value)
    """)

    assert ended.lines.count("child told True") == 3
    assert "parent waited True True succeeded" in ended.lines
    assert did(ended.lines, "parent") == [0, 1]
    assert (ended.status, ended.errors) == (0, "")


def test_a_child_passes_its_arguments_on():
    """The first call of a class in a child makes its queue, and gives it the arguments whichever call it is."""
    ended = forking("""
        def define():
            class Named(Job):
                def perform(self, number, *, word):
                    tell("did", number, word)
                    return word
            return Named

        now, soon, later = [define() for _ in range(3)]
        for one in (now, soon, later): one.perform_now(0, word="parent's")
        child = os.fork()
        if child == 0:
            tell("returned", now.perform_now(1, word="now"))
            soon.perform_async(2, word="soon").wait(5)
            later.perform_in(0.01, 3, word="later").wait(5)
            os._exit(7)
        reap(child)
    """)

    theirs = [line for line in ended.lines if line.startswith("child")]
    assert theirs == ["child did 1 now", "child returned now", "child did 2 soon", "child did 3 later"]
    assert ended.lines[-1] == "parent reaped 7"


def test_a_child_finds_no_lock_of_a_queue_closed():
    """A thread of the parent may have held it at the fork."""
    ended = forking("""
        theirs = Told.perform_async(1, 1)
        held, forked = threading.Event(), threading.Event()

        def hold():
            with Told.__job__.queue.mutex:
                held.set()
                forked.wait(10)

        threading.Thread(target=hold).start()
        held.wait(10)
        queue = Told.__job__.queue
        child = os.fork()
        if child == 0:
            theirs.cancel()
            tell("waiting", queue.qsize())
            Told.perform_async(2).wait(5)
            os._exit(7)
        reap(child)
        forked.set()
    """)

    assert "child waiting 0" in ended.lines
    assert did(ended.lines, "child") == [2]
    assert "parent reaped 7" in ended.lines


@pytest.mark.parametrize(
    "how", ["return 'from the child'", "raise ValueError('in the child')", "sys.exit(5)", "os._exit(7)"]
)
def test_a_job_that_forks(how: str):
    """A child forked inside a job ends when the job does; it is no second worker, and the run closes once, in the parent."""
    ended = forking(f"""
        sys.stdout = os.fdopen(os.dup(1), "w")  # with a buffer

        class Forking(Job, workers=1):
            def perform(self):
                child = os.fork()
                if child == 0:
                    tell("runs")
                    print("child printed")
                    {how}
                reap(child)
                return "from the parent"

        for name in ("succeeded", "failed", "discarded"):
            getattr(inproc_jobs.signals, "job_" + name).connect(
                lambda sender, run, name=name, **extra: tell(name, run.job.__name__), weak=False)
        one = Forking.perform_async()
        for number in range(10): Told.perform_async(number)
        two = Forking.perform_async()
        tell(one.result(10), two.result(10))
    """)

    assert ended.lines.count("child runs") == 2
    assert ended.lines.count("child printed") == (0 if how == "os._exit(7)" else 2)
    assert ended.lines.count(f"parent reaped {7 if how == 'os._exit(7)' else 0}") == 2
    assert "parent killed a child that hung" not in ended.lines
    assert ended.lines.count("parent succeeded Forking") == 2
    assert not [line for line in ended.lines if line.startswith(("child succeeded", "child failed", "child did"))]
    assert "parent from the parent from the parent" in ended.lines
    assert did(ended.lines, "parent") == list(range(10))
    assert ended.status == 0


@pytest.mark.parametrize("where", ["outside", "in a job"])
def test_multiprocessing(where: str):
    """A process of multiprocessing performs what it enqueues, whether it is started in a job or not, and ends."""
    ended = forking(f"""
        import multiprocessing
        context = multiprocessing.get_context("fork")

        def target(number):
            Told.perform_async(100 + number)
            if number: Told.perform_async(200 + number).wait(5)

        def launch():
            processes = [context.Process(target=target, args=(number,)) for number in range(3)]
            for process in processes: process.start()
            for process in processes:
                process.join(10)
                tell("joined", process.exitcode)
                if process.exitcode is None: process.kill()

        @job
        def launching():
            launch()

        for number in range(10): Told.perform_async(number)
        {"launch()" if where == "outside" else "launching.perform_async().result(15)"}
    """)

    assert ended.lines.count("parent joined 0") == 3
    assert did(ended.lines, "child") == [100, 101, 102, 201, 202]
    assert did(ended.lines, "parent") == list(range(10))
    assert (ended.status, ended.errors) == (0, "")


def test_a_process_of_multiprocessing_names_what_it_discards():
    """What such a process cannot finish by its deadline is named, and holds it up no longer."""
    ended = forking("""
        import multiprocessing
        configure(shutdown_timeout=0.5)
        process = multiprocessing.get_context("fork").Process(target=lambda: Told.perform_async(1, 60))
        process.start()
        process.join(10)
        tell("joined", process.exitcode)
        if process.exitcode is None: process.kill()
    """)

    assert "parent joined 0" in ended.lines
    assert ended.errors.count("shutdown\n") == 1
    assert did(ended.lines, "child") == []


def test_a_process_of_multiprocessing_accepts_nothing_behind_its_last_look():
    """It ends without Python's exit, so that what is let in after the first door would be lost."""
    ended = forking("""
        import multiprocessing

        class Late:
            def write(self, text):
                pass

            def flush(self):
                try:
                    Told.perform_async(300)
                    tell("accepted")
                except inproc_jobs.errors.ShutdownError:
                    tell("refused")

        def target():
            Told.perform_async(1)
            sys.stdout = Late()

        process = multiprocessing.get_context("fork").Process(target=target)
        process.start()
        process.join(10)
        tell("joined", process.exitcode)
    """)

    assert "parent joined 0" in ended.lines
    assert "child refused" in ended.lines
    assert did(ended.lines, "child") == [1, *[300] * ended.lines.count("child accepted")]


def test_the_way_of_a_run_imports_nothing():
    """A fork in the middle of another thread's import leaves the child a lock that nobody ever opens."""
    ended = run("""
        class Interrupted(Job, timeout=0.05, interruptible=True):
            def perform(self):
                for _ in range(1000): pause(0.01)

        before = set(sys.modules)
        Slow.perform_async(1).wait(5)
        Slow.perform_in(0.001, 2).wait(5)
        run = Interrupted.perform_async()
        run.wait(5)
        say(run.state.value, "imported", *sorted(set(sys.modules) - before))
    """)

    assert ended.lines == ["done 1", "done 2", "failed imported"]
    assert "is past its timeout" in ended.errors


def test_two_hundred_forks_beside_an_enqueueing_thread():
    """Forked at any moment of another thread's enqueue, no child hangs, and every run is performed once, at home."""
    ended = forking(
        """
        def enqueue():
            for number in range(10**9):
                if over.is_set(): break
                Told.perform_async(number, 0)
                if number % 50 == 0: Told.perform_in(0.001, 10**9 + number, 0)
                if number % 20 == 0: pause(0.001)
            tell("enqueued", number)

        over = threading.Event()
        thread = threading.Thread(target=enqueue)
        thread.start()
        sys.setswitchinterval(1e-5)
        children = []
        for number in range(200):
            child = os.fork()
            if child == 0:
                own = Told.perform_async(10**7 + number, 0)
                os._exit(0 if own.wait(10) else 9)
            children.append(child)
            if len(children) == 10:
                for child in children: reap(child)
                children.clear()
        over.set()
        thread.join()
        """,
        timeout=60,
    )

    count = next(int(line.split()[2]) for line in ended.lines if line.startswith("parent enqueued"))
    assert ended.lines.count("parent reaped 0") == 200
    assert did(ended.lines, "child") == [10**7 + number for number in range(200)]
    assert did(ended.lines, "parent") == [*range(count), *range(10**9, 10**9 + count, 50)]
    assert (ended.status, ended.errors) == (0, "")


# What a signal handler may do in the middle of a child's first enqueue, and how the child ends then.
STRIKES = {
    "enqueue": ("runs.append(Told.perform_async(101, 0))", 0),
    "delay": ("runs.append(Told.perform_in(0, 101, 0))", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -15),
}


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="CPython 3.11.7 itself can loop for ever under a profile function (DO_TRACING)"
)
@pytest.mark.parametrize(("strike", "status"), STRIKES.values(), ids=STRIKES)
def test_a_childs_first_enqueue_interrupted_at_every_step(strike: str, status: int):
    """Wherever the first enqueue of a process is interrupted, nothing is lost, and the shutdown leaves nothing behind."""
    ended = forking(
        f"""
        package = os.path.dirname(inproc_jobs.__file__)

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        def ours():
            return [thread.name for thread in threading.enumerate() if thread.name.startswith("inproc_jobs")]

        def child(step):
            def profile(frame, event, argument):
                # Where the interpreter looks for signals: as a function begins, and after each call.
                if event == "c_call" or struck or not frame.f_code.co_filename.startswith(package):
                    return
                left[0] -= 1
                if left[0] < 0:
                    struck.append(f"{{frame.f_code.co_filename}}:{{frame.f_lineno}} {{event}}")
                    {strike}

            runs, struck, left, before = [], [], [step], descriptors()
            sys.setprofile(profile)
            try:
                runs.append(Told.perform_async(100, 0))
            finally:
                sys.setprofile(None)
            tell("accepted", len(runs), "in step", step)
            if struck and {status}: pause(10)
            if not all(run.wait(5) for run in runs): tell("lost one", *struck)
            inproc_jobs.shutdown()
            for _ in range(500):
                if not ours(): break
                pause(0.01)
            if ours(): tell("left", *ours(), *struck)
            if descriptors() != before + 2: tell("opened", descriptors() - before, *struck)  # 2: what signals are heard by
            os._exit(0 if struck else 7)

        for step in range(1000):
            number = os.fork()
            if number == 0: child(step)
            status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
            if status: tell("reaped", status)
            if status == 7: break
        tell("struck", step)
        """,
        timeout=60,
    )

    steps = int(ended.lines[-1].split()[2])
    assert steps > 50
    assert [line for line in ended.lines if line.startswith(("child lost", "child left", "child opened"))] == []
    statuses = [line for line in ended.lines if line.startswith("parent reaped")]
    assert statuses == [f"parent reaped {status}"] * steps * (status != 0) + ["parent reaped 7"]
    accepted = sum(int(line.split()[2]) for line in ended.lines if line.startswith("child accepted"))
    assert accepted <= len(did(ended.lines, "child"))
    assert status or accepted == 2 * steps + 1 == len(did(ended.lines, "child"))
    assert (ended.status, ended.errors) == (0, "")


def test_a_grandchild():
    """A child's child starts empty again."""
    ended = forking("""
        Told.perform_async(0, 0.2)
        child = os.fork()
        if child == 0:
            Told.perform_async(100, 0.2)
            grandchild = os.fork()
            if grandchild == 0:
                Told.perform_async(200)
                sys.exit(0)
            reap(grandchild)
            sys.exit(0)
        reap(child)
    """)

    assert did(ended.lines, "child") == [100, 200]
    assert did(ended.lines, "parent") == [0]
    assert "child reaped 0" in ended.lines
    assert "parent reaped 0" in ended.lines
    assert (ended.status, ended.errors) == (0, "")


def test_a_fork_after_the_shutdown():
    """A child of a process that has shut down accepts work: it is another process."""
    ended = forking("""
        Told.perform_async(0)
        inproc_jobs.shutdown()
        child = os.fork()
        if child == 0:
            Told.perform_async(100)
            sys.exit(0)
        reap(child)
    """)

    assert did(ended.lines, "child") == [100]
    assert did(ended.lines, "parent") == [0]
    assert (ended.status, ended.errors) == (0, "")

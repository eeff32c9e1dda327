"""The commands of a Django site: which start threads, which finish work, and what the reloading server does."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path

import pytest
from ports import free_port
from process import Ended, Process, settle
from smtp import SmtpServer

pytest.importorskip("django")

from django_example import EXAMPLE, TROUBLE, Database, Site, make_database, manage

# Python 3.12.1 starts no thread once the main thread has ended, so runserver answers no request then.
THREADS_AT_THE_END = not (3, 12) <= sys.version_info < (3, 12, 2)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return make_database(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def database(empty: Database, tmp_path: Path) -> Database:
    return empty.copy(tmp_path)


def assert_clean(ended: Ended, status: int = 0) -> None:
    assert ended.status == status, ended.errors
    assert not TROUBLE.search(ended.errors), ended.errors


def test_a_command_that_enqueues_ends_when_its_jobs_have(database: Database):
    """``send_tickets`` returns to the prompt once every mail is out and every ticket written."""
    addresses = database.book(12)
    with SmtpServer() as smtp, manage("send_tickets", database=database, smtp=smtp) as process:
        ended = process.ended()

    assert_clean(ended)
    assert ended.lines == ["12 tickets to send"]
    assert sorted(smtp.recipients) == sorted(addresses)
    assert database.ticketed() == sorted(addresses)


def test_a_shell_that_enqueues_ends_when_its_jobs_have(database: Database):
    """So does ``shell``, in which nothing waits for them but the end of the process."""
    addresses = database.book(12)
    code = "from booking.jobs import TicketJob; [TicketJob.perform_async(number) for number in range(1, 13)]"
    with SmtpServer() as smtp, manage("shell", "--command", code, database=database, smtp=smtp) as process:
        ended = process.ended()

    assert_clean(ended)
    assert sorted(smtp.recipients) == sorted(addresses)
    assert database.ticketed() == sorted(addresses)


def test_a_command_that_is_stopped_finishes_what_it_has_enqueued(database: Database):
    """A signal in the middle of a command's work loses none of it; the command ends as it would have."""
    addresses = database.book(12)
    with SmtpServer(held=True) as smtp, manage("send_tickets", database=database, smtp=smtp) as process:
        process.wait_for("12 tickets to send")

        process.signal(signal.SIGTERM)
        smtp.release()
        ended = process.ended()

    assert sorted(smtp.recipients) == sorted(addresses)
    assert database.ticketed() == sorted(addresses)
    assert_clean(ended, -signal.SIGTERM)


def test_the_tests_of_the_site_pass(database: Database):
    """The example shows how a site tests its jobs, in Django's own test cases."""
    with manage("test", database=database) as process:
        ended = process.ended()

    assert "\nOK\n" in ended.errors
    assert_clean(ended)


QUIET_COMMANDS = """
import _thread, sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event.startswith("_thread.start") else None)

import config.wsgi, config.asgi
from django.core.management import call_command
from django.urls import get_resolver

get_resolver().url_patterns  # which imports all that has jobs
for command in (
    ["check", "--database=default"], ["migrate", "--verbosity=0"], ["makemigrations", "--check"], ["jobs"],
    ["collectstatic", "--no-input", "--verbosity=0"], ["sqlmigrate", "booking", "0001"], ["shell", "--command=pass"],
):
    call_command(*command, stdout=sys.stderr)
    print("after", command[0], len(started) + _thread._count())  # on Python 3.11 started stays empty

from booking.jobs import free_seats
free_seats.perform_async().wait(10)
print("after an enqueue", bool(len(started) + _thread._count()))
"""


def test_commands_and_imports_start_no_thread(database: Database, tmp_path: Path):
    """Nothing starts before the first enqueue: not for an import of the whole site, nor for any of these commands."""
    script = [sys.executable, "-c", QUIET_COMMANDS]
    settings = {"DJANGO_DATABASE": str(database.path), "DJANGO_STATIC_ROOT": str(tmp_path / "static")}
    with Process(*script, cwd=str(EXAMPLE), **settings) as process:
        ended = process.ended()

    assert ended.lines == [
        *(f"after {name} 0" for name in ("check", "migrate", "makemigrations", "jobs", "collectstatic", "sqlmigrate")),
        "after shell 0",
        "after an enqueue True",
    ]
    assert_clean(ended)


class DevelopmentSite(Site):
    """The site under ``runserver``, in a folder of its own whose files a test may touch."""

    def __init__(self, folder: Path, database: Database, smtp: SmtpServer, *options: str) -> None:
        self.folder = folder / "django_app"
        shutil.copytree(EXAMPLE, self.folder)
        shutil.copytree(EXAMPLE.parent / "flask_app" / "static", folder / "flask_app" / "static")
        port = free_port()
        command = ["runserver", "--skip-checks", *options, str(port)]
        super().__init__(manage(*command, database=database, smtp=smtp, cwd=self.folder), port)

    def wait_for_start(self) -> None:
        self.process.wait_for("Starting (WSGI )?development server at .*")
        self.once(self.is_up)

    def touch(self) -> bool:
        """Save a file of the site, as an editor does, and return whether the reloader has noticed.

        It takes for old what is saved before it has looked for the first time, a second after the start or so.
        """
        (self.folder / "booking" / "jobs.py").touch()
        return "changed, reloading" in self.process.errors()


def test_a_reload_in_the_middle_of_a_burst_loses_and_doubles_nothing(database: Database, tmp_path: Path):
    """When a file changes, the old process finishes what it has accepted, then goes; the new one takes over."""

    def book(kind: str) -> list[str]:
        with ThreadPoolExecutor(4) as visitors:
            addresses = [f"{kind}-{number}@example.org" for number in range(8)]
            return list(compress(addresses, visitors.map(site.book, addresses)))

    with SmtpServer(held=True) as smtp:
        site = DevelopmentSite(tmp_path, database, smtp)
        with site.process:
            site.wait_for_start()
            before = processes_of(site)
            early = book("early")
            site.once(site.touch)
            late = book("late") if THREADS_AT_THE_END else []
            smtp.release()
            site.wait_for_start()
            after = processes_of(site)
            sent_before = set(smtp.recipients)
            new = book("new")
            accepted = sorted(early + late + new)
            site.once(lambda: database.ticketed() == accepted)
            for pid in after:
                settle(pid)  # while the reloader looks at files, Ctrl-C may be lost in a weak reference's callback
            os.killpg(site.process.pid, signal.SIGINT)  # as a terminal does
            ended = site.process.ended()

    assert len(early) == len(new) == 8
    assert sorted(smtp.recipients) == accepted
    assert sent_before == {*early, *late}, "the old process has done its work before the new one began"
    assert len(before) == len(after) == 2
    assert len(before & after) == 1, "the one that watches stays, the one that serves is replaced"
    assert_clean(ended)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_server_that_does_not_reload_finishes_what_it_has_accepted(
    database: Database, tmp_path: Path, number: int, status: int
):
    """Without the reloader, ``runserver`` drains at Ctrl-C and at SIGTERM."""
    addresses = [f"guest-{number}@example.org" for number in range(8)]
    with SmtpServer(held=True) as smtp:
        site = DevelopmentSite(tmp_path, database, smtp, "--noreload")
        with site.process:
            site.wait_for_start()
            accepted = [site.book(address) for address in addresses]
            site.process.signal(number)
            smtp.release()
            ended = site.process.ended()

    assert all(accepted)
    assert sorted(smtp.recipients) == addresses == database.ticketed()
    assert_clean(ended, status)


def processes_of(site: Site) -> set[int]:
    """Return the processes of the site's session."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == site.process.pid:
                found.add(int(entry.name))
        except ProcessLookupError:
            pass
    return found

"""The Flask extension: over HTTP to a real server, from commands and a shell, with several apps, and misconfigured."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import inproc_jobs.flask
from inproc_jobs import signals
from inproc_jobs._runtime import settings
from inproc_jobs.flask import InprocJobs

TIMEOUT = 20.0  # seconds

APP = """
import os
import threading
from collections import Counter

import click
from flask import Flask, current_app, g, has_request_context, jsonify, request
from flask_sqlalchemy import SQLAlchemy

from inproc_jobs import Job, current_run, job
from inproc_jobs.flask import InprocJobs, job_succeeded

db = SQLAlchemy()
torn_down = Counter()
sessions = []
succeeded = []


class Entry(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.String, nullable=False)


@job
def look():
    # What a job sees of Flask.
    g.marks = g.get("marks", 0) + 1
    return {
        "app": current_app.name,
        "request": has_request_context(),
        "token": g.get("token"),
        "marks": g.marks,
        "thread": threading.current_thread().name.startswith("inproc_jobs"),
    }


class Write(Job, retry=lambda attempt, error: 0.0 if attempt < 3 else None):
    def perform(self, text, *, fail=0):
        sessions.append(db.session())
        pending = len(db.session.new)
        db.session.add(Entry(text=f"{text} {self.run.attempt}"))
        if self.run.attempt <= fail:
            db.session.flush()
            raise OSError("not this time")
        db.session.commit()
        return {"run": self.run.id, "attempts": self.run.attempt, "pending": pending}


@job
def outer():
    return look.perform_async().result(10)


@job(workers=1)
def say(words):
    threading.Event().wait(0.05)
    with open(os.environ["SAID"], "a") as file:
        file.write(f"{current_app.name}: {words}\\n")


def create_app():
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///" + os.environ["DATABASE"]
    app.config.from_prefixed_env()
    db.init_app(app)
    InprocJobs(app)
    with app.app_context():
        db.create_all()

    @app.teardown_appcontext
    def tear_down(error):
        run = current_run()
        if run is not None:
            torn_down[run.id] += 1

    @app.get("/look")
    def view():
        g.token = "the request's"
        seen = look.perform_async().result(10)
        return jsonify(job=seen, marks=g.get("marks"), path=request.path)

    @app.get("/now")
    def now():
        g.token = "the request's"
        return jsonify(job=look.perform_now(), token=g.token, path=request.path)

    @app.get("/outer")
    def nested():
        return jsonify(outer.perform_async().result(10))

    @app.get("/write")
    def write():
        mine = db.session()
        before = len(sessions)
        value = Write.perform_async(request.args["text"], fail=int(request.args.get("fail", 0))).result(10)
        theirs = sessions[before:]
        return jsonify(
            value,
            len({id(one) for one in [mine, *theirs]}),
            [one.in_transaction() for one in theirs],
            torn_down[value["run"]],
            [entry.text for entry in Entry.query.order_by(Entry.id)],
        )

    @app.get("/later")
    def later():
        run = look.perform_in(0.01)
        return jsonify(state=run.state, job=run.result(10))

    @app.get("/succeeded")
    def signalled():
        with job_succeeded.connected_to(lambda sender, run, **extra: succeeded.append(run.id)):
            run = look.perform_async()
            run.result(10)
        return jsonify(run.id in succeeded)

    @app.cli.command()
    @click.argument("words")
    def enqueue(words):
        for number in range(5):
            say.perform_async(f"{words} {number}")
        print("enqueued")

    return app
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the app in it."""
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "FLASK_APP": "shop",
        "DATABASE": str(folder / "shop.db"),
        "SAID": str(folder / "said.txt"),
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def flask(folder: Path, *command: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a ``flask`` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=folder,
        env=surroundings(folder, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def python(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script beside the app to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=folder,
        env=surroundings(folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture(scope="module", params=["gunicorn gthread", "flask run"])
def get(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Ask the app, served by a process of its own, for a page."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "shop.py").write_text(APP)
    gunicorn = ["gunicorn", "--bind=127.0.0.1:0", "--worker-class=gthread", "--threads=4", "shop:create_app()"]
    development = ["flask", "run", "--port=0", "--no-reload", "--no-debugger"]
    server = subprocess.Popen(
        [sys.executable, "-m", *(gunicorn if request.param == "gunicorn gthread" else development)],
        cwd=folder,
        env=surroundings(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in server.stderr or ()])
    reader.start()
    try:
        address = _address(lines)

        def ask(path: str) -> Any:
            with urllib.request.urlopen(address + path, timeout=TIMEOUT) as answer:
                return json.load(answer)

        yield ask
    finally:
        server.terminate()
        try:
            server.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(TIMEOUT)
        reader.join(TIMEOUT)
        if server.stderr is not None:
            server.stderr.close()


def _address(lines: queue.SimpleQueue[str]) -> str:
    deadline = time.monotonic() + TIMEOUT
    while True:
        line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        match = re.search(r"http://127\.0\.0\.1:\d+", line)
        if match:
            return match[0]


# Over HTTP.


def test_a_job_runs_in_a_fresh_app_context_without_the_request(get: Callable[[str], Any]) -> None:
    """A job enqueued in a view sees its app, no request, and nothing of the view's g; the view sees nothing of its."""
    for _ in range(3):
        answer = get("/look")

        assert answer["job"] == {"app": "shop", "request": False, "token": None, "marks": 1, "thread": True}
        assert (answer["marks"], answer["path"]) == (None, "/look")


def test_a_delayed_job_runs_in_the_app_that_enqueued_it(get: Callable[[str], Any]) -> None:
    """What is due after the request is over runs in an app context all the same."""
    answer = get("/later")

    assert answer["state"] == "scheduled"
    assert answer["job"] == {"app": "shop", "request": False, "token": None, "marks": 1, "thread": True}


def test_a_job_enqueued_by_a_job_runs_in_the_same_app(get: Callable[[str], Any]) -> None:
    """The app goes on from job to job; each has a context of its own."""
    assert get("/outer") == {"app": "shop", "request": False, "token": None, "marks": 1, "thread": True}


def test_perform_now_in_a_view_leaves_the_request_as_it_was(get: Callable[[str], Any]) -> None:
    """perform_now goes the same way: a context of its own, and the view's own afterwards."""
    answer = get("/now")

    assert answer["job"] == {"app": "shop", "request": False, "token": None, "marks": 1, "thread": False}
    assert (answer["token"], answer["path"]) == ("the request's", "/now")


def test_each_attempt_has_a_database_session_of_its_own(get: Callable[[str], Any]) -> None:
    """A failed attempt's rows are rolled back, its session is closed, and the next attempt begins with another one."""
    value, different, open_still, torn_down, entries = get("/write?text=retried&fail=2")

    assert (value["attempts"], value["pending"]) == (3, 0)
    assert different == 4, "the view and three attempts: four sessions"
    assert open_still == [False, False, False]
    assert torn_down == 3
    assert [entry for entry in entries if entry.startswith("retried")] == ["retried 3"]


def test_teardown_runs_once_for_a_job_that_succeeds(get: Callable[[str], Any]) -> None:
    """teardown_appcontext functions run once per attempt."""
    value, different, open_still, torn_down, entries = get("/write?text=once")

    assert (value["attempts"], different, open_still, torn_down) == (1, 2, [False], 1)
    assert entries.count("once 1") == 1


def test_the_extension_reexports_the_signals(get: Callable[[str], Any]) -> None:
    """A receiver connected through the extension hears of the job."""
    assert get("/succeeded") is True


def test_many_requests_at_once_each_get_their_own_job(get: Callable[[str], Any]) -> None:
    """Jobs of requests in parallel do not see each other."""
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(get("/look"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)

    assert [answer["job"]["marks"] for answer in answers] == [1] * 8


def test_an_unknown_page_is_still_flasks_own_answer(get: Callable[[str], Any]) -> None:
    """The extension does not stand between Flask and its errors."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        get("/nowhere")
    with caught.value:
        assert caught.value.code == 404


# Commands and shells.


def test_a_command_drains_at_its_end(folder: Path) -> None:
    """What a CLI command enqueues is finished before its process ends."""
    done = flask(folder, "enqueue", "hello")

    assert (done.returncode, done.stdout, done.stderr) == (0, "enqueued\n", "")
    assert (folder / "said.txt").read_text().splitlines() == [f"shop: hello {number}" for number in range(5)]


def test_a_shell_enqueues_and_drains_at_its_end(folder: Path) -> None:
    """Typed into `flask shell`, a job runs in the shell's app."""
    done = flask(folder, "shell", stdin="from shop import say\nrun = say.perform_async('from the shell')\n")

    assert done.returncode == 0, done.stderr
    assert (folder / "said.txt").read_text() == "shop: from the shell\n"


def test_outside_of_any_context_the_sole_app_is_taken(folder: Path) -> None:
    """A script that has made one app may enqueue without pushing its context."""
    done = python(
        folder,
        """
        from shop import create_app, look

        app = create_app()
        print(look.perform_async().result(10)["app"])
        """,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "shop\n", "")


def test_several_apps_in_one_process_each_get_their_own_jobs(folder: Path) -> None:
    """A job runs in the app that enqueued it; with several apps and no context it runs in none."""
    done = python(
        folder,
        """
        from flask import Flask, current_app, has_app_context
        from inproc_jobs import job
        from inproc_jobs.flask import InprocJobs

        jobs = InprocJobs()
        apps = [Flask(name) for name in ("one", "two", "three")]
        for app in apps[:2]:
            jobs.init_app(app)

        @job
        def name():
            return current_app.name if has_app_context() else None

        for app in apps:  # the third has no extension: its context is carried all the same
            with app.app_context():
                print(name.perform_async().result(10))
                nested = name.perform_in(0.01)
            print(nested.result(10))
        print(name.perform_async().result(10))
        """,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["one", "one", "two", "two", "three", "three", "None"]


def test_making_an_app_starts_nothing(folder: Path) -> None:
    """init_app reads the config and adds a command; no thread."""
    done = python(
        folder,
        """
        import threading
        from shop import create_app

        create_app()
        print([thread.name for thread in threading.enumerate()])
        """,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "['MainThread']\n", "")


def test_flask_jobs_lists_the_job_classes_with_their_options(folder: Path) -> None:
    """`flask jobs` shows each job by name, its options, and which of them were set."""
    done = flask(folder, "jobs")

    assert (done.returncode, done.stderr) == (0, "")
    sections = re.split(r"^(?=\S)", done.stdout, flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections] == ["shop.Write", "shop.look", "shop.outer", "shop.say"]
    say = sections[3]
    assert re.search(r"workers +1 .*\(set\)", say)
    assert re.search(r"max_queue +10000$", say, re.MULTILINE)
    assert re.search(r"when_full +'raise'$", say, re.MULTILINE)
    for option in ("block_timeout", "retry", "timeout", "interruptible", "expires_in", "priority"):
        assert option in say


def test_flask_jobs_without_job_classes_says_so(tmp_path: Path) -> None:
    """An app whose jobs are not imported gets a hint instead of silence."""
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\nfrom inproc_jobs.flask import InprocJobs\napp = Flask('empty')\nInprocJobs(app)\n"
    )

    done = flask(tmp_path, "jobs")

    assert done.returncode == 0
    assert "imported" in done.stdout


def test_settings_come_from_the_environment_too(folder: Path) -> None:
    """FLASK_INPROC_JOBS_* arrives by Flask's own from_prefixed_env, and a wrong one stops the app with its name."""
    good = flask(folder, "jobs", FLASK_INPROC_JOBS_MAX_THREADS="4")
    bad = flask(folder, "jobs", FLASK_INPROC_JOBS_MAX_THREADS="four")

    assert good.returncode == 0
    assert bad.returncode != 0
    assert "INPROC_JOBS_MAX_THREADS" in bad.stderr
    assert "must be an integer" in bad.stderr


# Configuration.


@pytest.fixture
def app() -> Flask:
    """An app without the extension."""
    return Flask("configured")


def test_the_config_sets_the_settings_of_the_process(app: Flask) -> None:
    """INPROC_JOBS_* keys are read at init_app; those that are missing stay as they are."""
    app.config.update(INPROC_JOBS_SHUTDOWN_TIMEOUT=3, INPROC_JOBS_MAX_THREADS=5)
    before = settings()

    jobs = InprocJobs(app)

    assert (settings().shutdown_timeout, settings().max_threads) == (3.0, 5)
    assert settings().max_scheduled == before.max_scheduled
    assert app.extensions["inproc_jobs"] is jobs


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("INPROC_JOBS_SHUTDOWN_TIMEOUT", "8", TypeError),
        ("INPROC_JOBS_SHUTDOWN_TIMEOUT", -1, ValueError),
        ("INPROC_JOBS_SHUTDOWN_TIMEOUT", float("nan"), ValueError),
        ("INPROC_JOBS_SHUTDOWN_TIMEOUT", None, TypeError),
        ("INPROC_JOBS_MAX_THREADS", 0, ValueError),
        ("INPROC_JOBS_MAX_THREADS", "32", TypeError),
        ("INPROC_JOBS_MAX_THREADS", True, TypeError),
        ("INPROC_JOBS_MAX_THREADS", 2.5, TypeError),
        ("INPROC_JOBS_MAX_SCHEDULED", -5, ValueError),
    ],
)
def test_a_wrong_config_value_is_refused_by_its_key(app: Flask, key: str, value: object, error: type) -> None:
    """The error names the key as it stands in the config, and what is allowed; nothing is registered or changed."""
    app.config[key] = value
    before = settings()

    with pytest.raises(error, match="must be") as caught:
        InprocJobs(app)

    assert key in str(caught.value)
    assert settings() == before
    assert "inproc_jobs" not in app.extensions
    del app.config[key]
    InprocJobs(app)


@pytest.mark.parametrize("key", ["INPROC_JOBS_MAX_THREAD", "INPROC_JOBS_", "INPROC_JOBS_WORKERS"])
def test_an_unknown_config_key_is_refused_with_those_there_are(app: Flask, key: str) -> None:
    """A misspelt key is an error that lists the right ones."""
    app.config[key] = 3

    with pytest.raises(TypeError, match=f"{key}'.*INPROC_JOBS_MAX_THREADS"):
        InprocJobs(app)


def test_keys_of_others_are_left_alone(app: Flask) -> None:
    """Only keys that begin with INPROC_JOBS_ are looked at."""
    app.config.update(JOBS="x", INPROC="y", inproc_jobs_max_threads="lower case is no key of Flask's")

    assert InprocJobs(app) is app.extensions["inproc_jobs"]


@pytest.mark.parametrize("again", [InprocJobs, lambda app: InprocJobs().init_app(app)], ids=["InprocJobs", "init_app"])
def test_a_second_registration_is_refused_with_what_to_do(app: Flask, again: Callable[[Flask], object]) -> None:
    """InprocJobs(app) and init_app(app) for one app is a mistake, and said so."""
    jobs = InprocJobs(app)

    with pytest.raises(RuntimeError, match="once for each app"):
        again(app)
    assert app.extensions["inproc_jobs"] is jobs


def test_the_extension_keeps_no_state() -> None:
    """One extension object may serve many apps, and holds none of them."""
    jobs = InprocJobs()
    for name in ("one", "two"):
        jobs.init_app(Flask(name))

    assert vars(jobs) == {}


def test_every_signal_is_reexported() -> None:
    """inproc_jobs.flask offers the same signals, the same objects."""
    for name in signals.__all__:
        assert getattr(inproc_jobs.flask, name) is getattr(signals, name)
        assert name in inproc_jobs.flask.__all__

"""The pages: each enqueues its job and answers at once."""

from __future__ import annotations

import email
import inspect
import re
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from inproc_jobs import Run, RunState, stats
from inproc_jobs.flask import job_enqueued

from . import jobs
from .jobs import MailJob, ReportJob, thumbnail

BURST = 20  # mails

pages = Blueprint("pages", __name__)
recent: deque[Run[Any]] = deque(maxlen=50)  # the runs this process accepted, newest first


def remember(sender: Any, run: Run[Any], **extra: Any) -> None:
    recent.appendleft(run)


job_enqueued.connect(remember, weak=False)


@pages.get("/")
def index() -> str:
    return render_template("index.html", code=inspect.getsource(jobs), burst=BURST)


@pages.post("/sign-up")
def sign_up() -> ResponseReturnValue:
    name = " ".join(request.form["name"].split())
    address = request.form["email"].strip()
    if not name or not re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", address, re.ASCII):
        abort(400, "A name and an e-mail address are needed.")
    MailJob.perform_async(name, address)
    return redirect(url_for(".index"), 303)


@pages.post("/burst")
def burst() -> ResponseReturnValue:
    for number in range(1, BURST + 1):
        MailJob.perform_async(f"Guest {number}", f"guest-{number}@example.org")
    return redirect(url_for(".index"), 303)


@pages.post("/pictures")
def upload() -> ResponseReturnValue:
    thumbnail.perform_async(request.files["picture"].read())
    return redirect(url_for(".index"), 303)


@pages.get("/pictures/<run_id>.png")
def picture(run_id: str) -> Response:
    run = next((run for run in list(recent) if run.id == run_id), None)
    if run is None or run.job is not thumbnail or run.state is not RunState.SUCCEEDED:
        abort(404)
    return Response(run.result(), mimetype="image/png")


@pages.post("/reports")
def report() -> ResponseReturnValue:
    ReportJob.perform_async()
    return redirect(url_for(".index"), 303)


@pages.get("/inbox")
def inbox() -> str:
    return render_template("inbox.html", mails=[read(path) for path in mail_files()[:50]], count=len(mail_files()))


@pages.get("/status.json")
def status() -> dict[str, Any]:
    """Return what app.js shows, and asks for twice a second."""
    return {
        "jobs": {name.rpartition(".")[2]: asdict(snapshot) for name, snapshot in stats().items()},
        "runs": [describe(run) for run in list(recent)],
        "mails": len(mail_files()),
    }


def describe(run: Run[Any]) -> dict[str, Any]:
    end = run.finished_at or datetime.now(UTC)
    about = {
        "id": run.id,
        "job": run.job.__name__,
        "state": run.state,
        "attempt": run.attempt,
        "seconds": (end - run.enqueued_at).total_seconds(),
    }
    match about["state"]:
        case RunState.SUCCEEDED if run.job is thumbnail:
            about["picture"] = url_for(".picture", run_id=run.id)
        case RunState.SUCCEEDED:
            about["outcome"] = run.result()
        case RunState.FAILED | RunState.RETRYING:
            about["outcome"] = repr(run.error)
        case RunState.DISCARDED:
            about["outcome"] = run.reason
    return about


def mail_files() -> list[Path]:
    """Return the mails that serve.py received, newest first."""
    folder = current_app.config["INBOX"]
    return sorted(Path(folder).glob("*.eml"), reverse=True) if folder else []


def read(path: Path) -> EmailMessage:
    return email.message_from_bytes(path.read_bytes(), policy=default)

"""The Flask app under test."""

from __future__ import annotations

import os

from flask import Flask, request
from work import obey

app = application = Flask(__name__)
if "WITHOUT" not in os.environ:
    from inproc_jobs.flask import InprocJobs

    InprocJobs(app)


@app.post("/<command>")
def tell(command: str) -> str:
    return obey(command, request.args)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), use_reloader="RELOAD" in os.environ)

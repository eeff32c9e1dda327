"""Start the site beside an SMTP server that keeps what it is sent; run.py makes the way here."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "flask_app"))

from serve import HOST, free_port, smtp_server  # noqa: E402 - the Flask example has the same mails

SERVERS = {
    "wsgi": ("gunicorn", "--config", "gunicorn.conf.py", "--bind", "{host}:{port}"),
    "asgi": ("uvicorn", "--no-access-log", "--host", "{host}", "--port", "{port}", "config.asgi:application"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.py", description="Start the Django example of inproc_jobs.")
    parser.add_argument("--port", type=int, default=8000, help="port of the web server; 0 takes any free one")
    parser.add_argument("--asgi", action="store_const", const="asgi", default="wsgi", dest="kind", help="under uvicorn")
    asked = parser.parse_args()
    try:
        port = free_port(asked.port)
    except (OSError, OverflowError) as error:
        print(f"Port {asked.port} cannot be used ({error}): choose another one with --port", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, smtp_server(Path(folder)) as smtp_port:
        os.environ.update(
            DJANGO_SMTP_HOST=HOST,
            DJANGO_SMTP_PORT=str(smtp_port),
            DJANGO_INBOX=folder,
            DJANGO_DATABASE=str(Path(folder) / "db.sqlite3"),
        )
        migrate = subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity=0"], cwd=HERE)
        return migrate.returncode or serve(*(part.format(host=HOST, port=port) for part in SERVERS[asked.kind]))


def serve(*server: str) -> int:
    """Run the server until it ends or a signal asks for the end; then let it finish its jobs."""
    # In a process group of its own: Ctrl-C in a terminal goes to a whole group, and makes gunicorn stop without grace.
    with subprocess.Popen([sys.executable, "-m", *server], cwd=HERE, process_group=0) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print("\nStopping: accepted jobs are finished, for 8 s at most", flush=True)
            process.terminate()
            status = process.wait()
            return 0 if status == -signal.SIGTERM else status  # as uvicorn ends where it was asked to


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was a server to stop
        sys.exit(130)

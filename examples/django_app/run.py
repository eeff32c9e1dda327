"""Start the example: ``python3 examples/django_app/run.py``.

The first start makes a virtual environment, .venvs/example-django in the repository; later ones need no network. Then
start.py takes over, in that environment.
"""

import fcntl
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / ".ci"))

from environment import environment, newest  # noqa: E402 - from the folder just added

NEEDS = ("--editable", f"{REPOSITORY}[django]", "gunicorn>=23", "uvicorn>=0.34", "aiosmtpd>=1.4.6")


def main():
    try:
        (REPOSITORY / ".venvs").mkdir(exist_ok=True)
        with open(str(REPOSITORY / ".venvs" / "example-django.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once would tread on each other
            python = environment("example-django", newest(), *NEEDS)
    except KeyboardInterrupt:
        sys.exit(130)
    os.execv(python, [python, str(HERE / "start.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()

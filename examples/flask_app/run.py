"""Start the example: ``python3 examples/flask_app/run.py``.

The first start makes a virtual environment, .venvs/example in the repository, and installs into it what the example
needs; later starts find it there and need no network. Then serve.py takes over, in that environment.
"""

# Nothing newer than Python 3.6 in this file, so that an old python3 finds a newer one, or says what is needed.

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
VENV = REPOSITORY / ".venvs" / "example"
VENV_PYTHON = VENV / "bin" / "python"
NEEDS = ["--editable", f"{REPOSITORY}[flask]", "gunicorn>=23", "aiosmtpd>=1.4.6", "pillow>=11"]


def main():
    try:
        VENV.parent.mkdir(exist_ok=True)
        with open(str(VENV) + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once would tread on each other
            if not is_installed():
                install(find_python())
    except KeyboardInterrupt:
        sys.exit(130)
    os.execv(str(VENV_PYTHON), [str(VENV_PYTHON), str(HERE / "serve.py"), *sys.argv[1:]])


def is_installed():
    return succeeds(str(VENV_PYTHON), "-c", "import aiosmtpd, flask, gunicorn, inproc_jobs, PIL")


def install(python):
    print(f"First start: installing into {VENV.relative_to(REPOSITORY)}, which takes a while ...", flush=True)
    call(python, "-m", "venv", "--clear", "--without-pip", str(VENV))
    pip = [python, "-m", "pip", "--python", str(VENV_PYTHON)]  # Debian's venv has none of its own
    if not succeeds(*pip, "--version"):
        call(str(VENV_PYTHON), "-m", "ensurepip")
        pip = [str(VENV_PYTHON), "-m", "pip"]
    call(*pip, "install", "--quiet", "--disable-pip-version-check", *NEEDS)


def call(*command):
    # In a session of its own: at Ctrl-C each of these tools would print a traceback.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    if status:
        sys.exit(f"The installation failed: {' '.join(command)}")


def find_python():
    """Return a Python that is new enough: this one, one on the PATH, or one of pyenv's."""
    candidates = [sys.executable]
    for version in ("3.13", "3.12", "3.11"):
        candidates.append(shutil.which("python" + version))
        candidates += sorted(str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    for python in candidates:
        if python and succeeds(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"):
            return python
    have = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"This needs Python 3.11 or newer, and found only {have}: see https://www.python.org/downloads/")


def succeeds(*command):
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


if __name__ == "__main__":
    main()

"""How gunicorn serves the example: one process, so that the page shows all there is."""

from pathlib import Path

wsgi_app = "config.wsgi:application"
chdir = str(Path(__file__).resolve().parent)
workers = 1
threads = 4
loglevel = "warning"
control_socket_disable = True


def post_worker_init(worker):
    for listener in worker.sockets:
        print(f"Open {listener} in a browser, stop with Ctrl-C", flush=True)

"""How gunicorn serves the example: one process, so that the page shows all there is."""  # noqa: N999 - gunicorn's name

from pathlib import Path

wsgi_app = "flask_app:create_app()"
chdir = str(Path(__file__).resolve().parents[1])
workers = 1
threads = 4
loglevel = "warning"
control_socket_disable = True


def post_worker_init(worker):
    for listener in worker.sockets:
        print(f"Open {listener} in a browser, stop with Ctrl-C", flush=True)

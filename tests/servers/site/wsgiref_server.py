"""The app under test on the standard library's server."""

from __future__ import annotations

import os
from wsgiref.simple_server import make_server

from wsgi import app

make_server("127.0.0.1", int(os.environ["PORT"]), app).serve_forever()

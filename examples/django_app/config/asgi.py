"""For uvicorn and other ASGI servers. The lifespan finishes the jobs while the server still stands."""

import os

from django.core.asgi import get_asgi_application

from inproc_jobs.asgi import lifespan

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = lifespan(get_asgi_application())

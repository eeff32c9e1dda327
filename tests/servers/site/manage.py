"""A Django project in one file, with a management command that obeys what it reads."""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings
from django.core.management import BaseCommand, execute_from_command_line, get_commands
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=True,
    INSTALLED_APPS=[] if "WITHOUT" in os.environ else ["inproc_jobs.django"],
    ROOT_URLCONF="manage",
    SECRET_KEY="x",
    USE_TZ=True,
)
django.setup()

from work import obey  # noqa: E402 - a job class may want the settings


@csrf_exempt
def tell(request: HttpRequest, command: str) -> HttpResponse:
    return HttpResponse(obey(command, request.GET.dict()))


urlpatterns = [path("<command>", tell)]


class Work(BaseCommand):
    def handle(self, *_: object, **__: object) -> None:
        from console import main

        main()


if __name__ == "__main__":
    sys.modules["manage"] = sys.modules["__main__"]
    get_commands()["work"] = Work()
    execute_from_command_line(sys.argv)
else:
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    wsgi, asgi = get_wsgi_application(), get_asgi_application()

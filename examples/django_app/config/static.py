"""Static files without a server in front; a site of your own has WhiteNoise or nginx for that."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse


def static_file(request: HttpRequest, name: str) -> HttpResponse:
    found = finders.find(name)
    if found is None:
        raise Http404
    return HttpResponse(Path(found).read_bytes(), content_type=mimetypes.guess_type(name)[0])

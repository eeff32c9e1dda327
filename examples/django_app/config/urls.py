"""The pages of the site."""

from __future__ import annotations

from django.apps import apps
from django.urls import include, path

from .static import static_file

urlpatterns = [path("", include("booking.urls")), path("static/<path:name>", static_file)]
if apps.is_installed("reports"):
    urlpatterns.append(path("reports/", include("reports.urls")))

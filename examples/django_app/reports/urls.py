"""Where the pages of the reports are."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "reports"
urlpatterns = [
    path("", views.index, name="index"),
    path("make", views.make, name="make"),
    path("make-later", views.make_later, name="make_later"),
    path("status.json", views.show_status, name="status"),
]

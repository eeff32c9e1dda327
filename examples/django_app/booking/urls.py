"""Where the pages of the bookings are."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "booking"
urlpatterns = [
    path("", views.index, name="index"),
    path("book", views.book, name="book"),
    path("burst", views.burst, name="burst"),
    path("decline", views.decline, name="decline"),
    path("seats", views.seats, name="seats"),
    path("inbox", views.inbox, name="inbox"),
    path("status.json", views.show_status, name="status"),
]

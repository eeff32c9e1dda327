"""The model and the mail of the page's app."""

from types import SimpleNamespace

from flask import redirect, request, url_for  # noqa: F401 - the page's

from inproc_jobs import drain

sent = []


class User:
    email = "ada@example.org"


db = SimpleNamespace(session=SimpleNamespace(get=lambda kind, key: kind()))


def send_mail(to, subject):
    sent.append((to, subject))


def create_user(form):
    return SimpleNamespace(id=1)


def afterwards(page):
    @page.app.get("/welcome")
    def welcome():
        return "welcome"

    assert page.app.test_client().post("/users").status_code == 302
    assert drain(10)
    assert sent == [("ada@example.org", "Welcome")]

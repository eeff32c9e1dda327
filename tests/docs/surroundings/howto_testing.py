"""A Django project, which the reader has, and pytest's configuration."""

from pathlib import Path

Path("conftest.py").write_text("""
import django
import pytest
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "inproc_jobs.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from django.test.utils import setup_databases, setup_test_environment


@pytest.fixture(scope="session", autouse=True)
def databases():
    setup_test_environment()
    setup_databases(verbosity=0, interactive=False)


@pytest.fixture(autouse=True)
def nothing_sent():
    import shop

    shop.sent.clear()
""")

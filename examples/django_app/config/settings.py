"""The settings: those of a small site, and the lines that inproc_jobs needs."""

from __future__ import annotations

import os
from pathlib import Path

import django
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parents[1]

INSTALLED_APPS = ["django.contrib.staticfiles", "inproc_jobs.django", "booking"]
INPROC_JOBS_SHUTDOWN_TIMEOUT = 8.0  # seconds to finish accepted jobs when the server stops

SMTP_HOST = os.environ.get("DJANGO_SMTP_HOST", "127.0.0.1")
SMTP_PORT = int(os.environ.get("DJANGO_SMTP_PORT", "1025"))
INBOX = os.environ.get("DJANGO_INBOX")  # the folder in which the launcher keeps the mails it receives

if django.VERSION >= (6, 1):
    INSTALLED_APPS += ["reports"]
    TASKS = {"default": {"BACKEND": "inproc_jobs.django.tasks.InprocBackend", "OPTIONS": {"workers": 2}}}
    MAILERS = {"default": {"OPTIONS": {"host": SMTP_HOST, "port": SMTP_PORT, "timeout": 10}}}
else:  # no tasks there, and mail is configured otherwise
    EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = SMTP_HOST, SMTP_PORT, 10
DEFAULT_FROM_EMAIL = "The example <hello@example.org>"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DJANGO_DATABASE", BASE_DIR / "db.sqlite3"),
        # With these, requests and jobs may write at once: each waits for the other instead of failing.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
        },
    }
}

DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "booking.middleware.Busy",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = os.environ.get("DJANGO_STATIC_ROOT")  # where collectstatic puts the files
STATICFILES_DIRS = [BASE_DIR.parent / "flask_app" / "static"]  # one look for both examples

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler", "level": "WARNING"}},
    "root": {"handlers": ["console"]},
}

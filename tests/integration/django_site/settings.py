"""The settings of the site; a test says what it wants in ``SITE_SETTINGS``, as JSON."""

import json
import os

SECRET_KEY = "of tests"
INSTALLED_APPS = ["inproc_jobs.django", "django_site"]
USE_TZ = True
LANGUAGES = [("en", "English"), ("de", "German"), ("fr", "French")]
LOGGING_CONFIG = None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

globals().update(json.loads(os.environ["SITE_SETTINGS"]))

"""How the documentation is built: ``python -m sphinx -W --keep-going -b html docs .venvs/docs-html``."""

from __future__ import annotations

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = "inproc_jobs"
author = "The inproc_jobs developers"
project_copyright = author
version = release = _project["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "completeness",
    "docstrings",
    "pictures",
]
exclude_patterns = ["_extensions"]
if find_spec("django") is None or find_spec("django.tasks") is None:  # Django 5.2, on Python 3.11
    exclude_patterns.append("reference/api/django.md")

myst_heading_anchors = 3
myst_enable_extensions = ["fieldlist"]
suppress_warnings = ["config.cache"]

smartquotes = False

nitpicky = True
# What lies outside of this package is not looked up: that would take the network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!inproc_jobs).*"),
    ("py:.*", r"inproc_jobs\._\w+\.(P|R|R_co|T|\w+Runtime|_Decorator)"),  # parameters of types, private names
]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("options", "params_style"), ("config keys", "params_style")]
add_module_names = False
python_use_unqualified_type_names = True

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines names, as if they were links
html_title = f"inproc_jobs {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

"""Measure one theme in this process and print its rows as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict

theme = importlib.import_module(f"benchmarks.themes.{sys.argv[1]}")
rows = theme.measure(quick="--quick" in sys.argv)
print(json.dumps([asdict(row) for row in rows]))

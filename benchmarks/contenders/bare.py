"""A bare ``ThreadPoolExecutor``: what everything is held against."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .. import jobs
from . import WORKERS, Contender


def start() -> Contender:
    pool = ThreadPoolExecutor(WORKERS)
    return Contender(partial(pool.submit, jobs.act), platform.python_version(), close=pool.shutdown)

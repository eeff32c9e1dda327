"""A cache that can be seen to be closed."""

from typing import Any

from django.core.cache.backends.locmem import LocMemCache


class Noting(LocMemCache):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.closed = 0

    def close(self, **kwargs: Any) -> None:
        self.closed += 1

"""The script, as a test that pytest runs."""

from __future__ import annotations

from console import main


def test_console() -> None:
    main()

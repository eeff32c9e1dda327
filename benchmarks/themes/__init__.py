"""The rows of the budgets: one file a theme, with ``measure(*, quick) -> list[Row]``, each run in its own process."""

THEMES = ("calls", "bursts", "idle_start", "in_flask", "in_django", "memory", "delays", "unused", "stop", "imports")

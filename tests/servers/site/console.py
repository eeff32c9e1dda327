"""A plain script that obeys what it reads from its standard input: a line is "number command?query"."""

from __future__ import annotations

import os
import select
from urllib.parse import parse_qsl

match os.environ.get("PATCH"):  # by whom this process is patched before our package is imported
    case "gevent":
        from gevent import monkey

        monkey.patch_all()
    case "eventlet":
        import eventlet

        eventlet.monkey_patch()

from work import note, obey

match os.environ.get("PATCH_LATE"):  # and by whom after it
    case "gevent":
        from gevent import monkey

        monkey.patch_all()
    case "eventlet":
        import eventlet

        eventlet.monkey_patch()


def hear(line: str) -> None:
    number, _, told = line.partition(" ")
    command, _, query = told.partition("?")
    obey(command, dict(parse_qsl(query)))
    note("heard", number)


def main() -> None:
    note("heard", 0)
    rest, source = b"", os.dup(0)  # eventlet takes 0 for no descriptor
    while select.select([source], [], []) and (read := os.read(source, 1024)):  # select: so that greenlets go on
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            hear(line.decode())


if __name__ == "__main__":
    main()

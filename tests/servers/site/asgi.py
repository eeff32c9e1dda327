"""The ASGI app under test. Quick commands are done on the event loop, those that wait in a thread."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import parse_qsl

from work import obey


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise ValueError("no lifespan here")
    command, query = scope["path"].strip("/"), dict(parse_qsl(scope["query_string"].decode()))
    wait = command in ("late", "pause", "fork")
    answer = await asyncio.to_thread(obey, command, query) if wait else obey(command, query)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer.encode()})


if "LIFESPAN" in os.environ and "WITHOUT" not in os.environ:
    from inproc_jobs.asgi import lifespan

    app = lifespan(app)

"""An ASGI app whose lifespan finishes the jobs: earlier than the exit of the process, and while the loop still runs.

Nothing depends on it: without it the work is finished when the server has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from . import _lifecycle

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LAST = ("lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed")


def lifespan(app: App) -> App:
    """Return *app*, an ASGI application, with a lifespan that drains accepted runs when the server shuts down.

        app = lifespan(app)

    Waits in a thread, so that the event loop goes on, for ``shutdown_timeout`` seconds at most; what then is left of
    them is what the exit that follows may take. The app's own lifespan is called as before, after the drain; an app
    without one (Django's, for example) gets one.
    """

    async def wrapped(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        protocol = _Lifespan(receive, send)
        try:
            await app(scope, protocol.receive, protocol.send)
        except Exception:
            # An app may raise here to say that it has no lifespan; once it has answered, it is an error.
            if protocol.answered:
                raise
        if not protocol.finished:
            await protocol.finish()

    return wrapped


class _Lifespan:
    """The server's side of the protocol, with a drain before the shutdown."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._message: Message | None = None  # the last one that was received
        self.answered = False
        self.finished = False

    async def receive(self) -> Message:
        """Receive the next message, and drain before a shutdown is passed on."""
        self._message = await self._receive()
        if self._message["type"] == "lifespan.shutdown":
            await asyncio.to_thread(_lifecycle.finish_early)
        return self._message

    async def send(self, message: Message) -> None:
        """Pass on an answer of the app."""
        self.answered = True
        self.finished = message["type"] in _LAST
        await self._send(message)

    async def finish(self) -> None:
        """Say what is left to say for an app that has no lifespan."""
        while not self.finished:
            message = self._message if self._message is not None and not self.answered else await self.receive()
            await self.send({"type": f"{message['type']}.complete"})

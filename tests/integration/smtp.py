"""An SMTP server on loopback that keeps what it is sent, and holds mails back until it is told to take them."""

from __future__ import annotations

import asyncio
import threading
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller
from ports import HOST, free_port

TIMEOUT = 20.0  # seconds a test waits for a mail


class SmtpServer:
    """Takes mails in a thread of its own, as a context manager; with *held* it answers none before ``release``.

    Attributes:
        port: where it listens.
        recipients: one for each mail it has accepted, in that order.
        mails: what they were sent.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.recipients: list[str] = []
        self.mails: list[EmailMessage] = []
        self._arrived = threading.Semaphore(0)
        self._released = asyncio.Event()
        if not held:
            self._released.set()
        self._controller = Controller(self, hostname=HOST, port=free_port())
        self.port = self._controller.port

    def __enter__(self) -> SmtpServer:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Accept one mail; called by aiosmtpd."""
        await self._released.wait()
        self.recipients += envelope.rcpt_tos
        self.mails.append(message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
        self._arrived.release()
        return "250 OK"

    def release(self) -> None:
        """Take the mails that were held back, and all that follow."""
        self._controller.loop.call_soon_threadsafe(self._released.set)

    def wait_for_mail(self) -> None:
        """Wait until one mail more has arrived."""
        assert self._arrived.acquire(timeout=TIMEOUT), f"no mail came, only those to {self.recipients}"

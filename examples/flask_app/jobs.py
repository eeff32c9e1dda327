"""The jobs: what happens after the page was answered."""

from __future__ import annotations

import smtplib
from email.headerregistry import Address
from email.message import EmailMessage
from io import BytesIO

from flask import current_app, render_template
from PIL import Image, ImageOps

from inproc_jobs import Job, Retry, job


class MailJob(Job, workers=4, retry=Retry(attempts=5, on=(ConnectionRefusedError,), backoff=0.5)):
    """Sends the welcome mail. Only a server that cannot be reached is tried again, so no mail goes out twice."""

    def perform(self, name: str, email: str) -> str:
        message = EmailMessage()
        message["From"] = "The example <hello@example.org>"
        message["To"] = Address(name, addr_spec=email)
        message["Subject"] = f"Welcome, {name}!"
        message.set_content(render_template("welcome.txt", name=name))
        config = current_app.config
        with smtplib.SMTP(config["SMTP_HOST"], config["SMTP_PORT"], timeout=5) as smtp:
            smtp.send_message(message)
        return f"sent to {email}"


@job(workers=1, max_queue=20)
def thumbnail(picture: bytes) -> bytes:
    """Makes a small PNG of a picture. What a job returns is the result of its run."""
    with Image.open(BytesIO(picture)) as original:
        small = ImageOps.exif_transpose(original).convert("RGBA")
        small.thumbnail((320, 320))
    png = BytesIO()
    small.save(png, "PNG")
    return png.getvalue()


class ReportJob(Job, retry=Retry(attempts=5, on=(ConnectionError,), backoff=0.5, jitter=False)):
    """Fails twice, then works. While it waits for its next attempt it holds no thread."""

    def perform(self) -> str:
        if self.run.attempt < 3:
            raise ConnectionError("the other side did not answer")
        return f"worked at attempt {self.run.attempt}"

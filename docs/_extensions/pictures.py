"""Puts SVG files into the page itself, so that their lines and letters take the colours of its light or dark mode.

An ``<img>`` is a document of its own and knows only the system's mode, not the one the reader has chosen.
"""

# What Sphinx calls has parameters of its choice.
# ruff: noqa: ARG002, D102, D103

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class Inline(SphinxPostTransform):
    """Replaces images that are SVG files by their text."""

    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            if image["uri"].endswith(".svg"):
                drawing = Path(self.env.srcdir, image["uri"]).read_text()
                figure = f'<div class="picture">{drawing}</div>'
                image.replace_self(nodes.raw("", figure, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(Inline)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Has autodoc read docstrings as ``help()`` shows them: plain text, in which an indented block is a drawing or code."""

# What Sphinx calls has parameters of its choice.
# ruff: noqa: ARG001, D103

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# Headings of lists of names, which explain themselves where they stand; napoleon knows them by one word.
HEADINGS = {
    "Options, inherited by subclasses:": "Options:",
    "Config keys, which are settings of the process; the last app to set one decides:": "Config keys:",
    "OPTIONS:": "Options:",
}

SENTENCE_OF_DATA = re.compile(r" (?=(?:Keywords|Sender): )")
DANGLING = re.compile(r"(?<![`\w])(\w+)_(?=\s)")  # the beginning of a name, which is no link


def prepare(app: Sphinx, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Mark what is indented after an empty line as literal, and what is not as text; give lists a known heading."""
    if what == "data":  # of a signal; napoleon would read "text: text" as a type and its meaning
        lines[:] = SENTENCE_OF_DATA.sub("\n\n", "\n".join(lines)).split("\n")
    prepared: list[str] = []
    margin = 0  # of the last line that is not in a literal block
    literal = False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip():
            after_gap = number > 0 and not lines[number - 1].strip()
            if literal and indent <= margin:
                literal = False
            elif not literal and after_gap and indent > margin:
                prepared += [f"{' ' * margin}::", ""]
                literal = True
            if not literal:
                margin = indent
                line = DANGLING.sub(r"\1\\_", HEADINGS.get(line, line))
        prepared.append(line)
    lines[:] = prepared


def hide_markers(app: Sphinx, document: nodes.document) -> None:
    """Show an option that is not given as ``...``, as the stubs of the overloads do."""
    for text in list(document.findall(lambda node: isinstance(node, nodes.Text) and node == "_KEEP")):
        text.parent.replace(text, nodes.Text("..."))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before napoleon
    app.connect("doctree-read", hide_markers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

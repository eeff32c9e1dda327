"""How trouble looks in the log: one record, no arguments, nothing that could forge a line, no frame kept alive."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

MAX_ERROR_TEXT = 4096  # bytes of UTF-8, after escaping
MAX_CHAIN = 8  # errors of a chain of causes that are shown
MAX_DEPTH = 3  # groups within groups that are shown
MAX_FRAMES = 40  # calls shown of one error, the innermost

# What an error is, whatever its class makes of its attributes.
cause_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__cause__"].__get__
context_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__context__"].__get__
is_context_suppressed: Callable[[BaseException], bool] = vars(BaseException)["__suppress_context__"].__get__
traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__

name_of: Callable[[type], str] = vars(type)["__qualname__"].__get__

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

# Controls of C0 and C1, line and paragraph separators, characters that reorder a line: how each is spelt out.
# No regular expression: to compile it took as long as the rest of this module.
_UNSAFE = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SPELT = {code: ascii(chr(code))[1:-1] for code in _UNSAFE}


def escaped(text: str) -> str:
    """Return *text* on one line, its control characters spelt out, cut at 4 KiB."""
    spelt = text[: MAX_ERROR_TEXT + 1].translate(_SPELT)
    data = spelt.encode(errors="backslashreplace")  # which spells lone surrogates
    if len(data) <= MAX_ERROR_TEXT:
        return data.decode()
    return data[: MAX_ERROR_TEXT - 3].decode(errors="ignore") + "..."


def _plain(text: str) -> str:
    """Return *text*, of whatever subclass, as a plain string."""
    return str.__str__(text)


def shown(value: object) -> str:
    """Return the repr of a user's *value* for an error message: on one line, short, and whatever its repr does."""
    said: list[str] = []
    guarded(lambda: said.append(_plain(repr(value))))
    text = escaped(said[0]) if said else f"<{escaped(name_of(type(value)))} object>"
    return text if len(text) <= 200 else text[:197] + "..."


def describe(error: BaseException) -> str:
    """Return the class and the text of *error*, as its traceback's last line would show them, escaped and cut."""
    name, said = escaped(name_of(type(error))), text(error)
    return f"{name}: {escaped(said)}" if said else name


def text(error: BaseException) -> str:
    """Return ``str(error)``, whatever that raises."""
    said: list[str] = []
    guarded(lambda: said.append(_plain(str(error))))
    return said[0] if said else "<its text cannot be shown: str() raised>"


def trace(error: BaseException) -> str:
    """Return the traceback of *error* and its causes as text, from the job's own code on, escaped and cut."""
    said: list[str] = []
    guarded(lambda: said.append(_trace(error)))
    return said[0] if said else describe(error)


def _trace(error: BaseException, depth: int = 0) -> str:
    parts: list[str] = []
    for link, reason in _chain(error):
        stack = traceback.StackSummary.extract(
            traceback.walk_tb(_outside(traceback_of(link))), limit=-MAX_FRAMES, lookup_lines=True
        )
        lines = ["Traceback (most recent call last):\n", *_formatted(stack)] if stack else []
        notes = [f"\n{escaped(note)}" for note in _notes(link)]
        members = _members(link)[:MAX_CHAIN] if depth < MAX_DEPTH else []
        for number, member in enumerate(members, 1):
            inner = "    " + _trace(member, depth + 1).replace("\n", "\n    ")
            notes.append(f"\n  Error {number} of {len(_members(link))} in the group:\n{inner}")
        parts.append("".join((*lines, describe(link), *notes)) + (f"\n\n{reason}\n\n" if reason else ""))
    return "".join(parts)


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    if type(notes) is not list:
        return []
    shown = [_plain(note) for note in notes[:MAX_CHAIN] if issubclass(type(note), str)]
    return shown if len(notes) <= MAX_CHAIN else [*shown, f"... and {len(notes) - MAX_CHAIN} more notes"]


def _members(error: BaseException) -> tuple[BaseException, ...]:
    if not issubclass(type(error), BaseExceptionGroup):
        return ()
    return tuple(BaseExceptionGroup.exceptions.__get__(error))


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return *error* and what led to it, oldest first, each with the sentence that leads on to the next."""
    links: list[tuple[BaseException, str]] = [(error, "")]
    seen = {id(error)}
    while len(links) < MAX_CHAIN:
        last = links[-1][0]
        cause, context = cause_of(last), context_of(last)
        if cause is not None:
            earlier, reason = cause, "The above exception was the direct cause of the following exception:"
        elif context is not None and not is_context_suppressed(last):
            earlier, reason = context, "During handling of the above exception, another exception occurred:"
        else:
            break
        if id(earlier) in seen:
            break
        seen.add(id(earlier))
        links.append((earlier, reason))
    return links[::-1]


def _outside(tb: TracebackType | None) -> TracebackType | None:
    """Skip the calls of this package that lead to the job's own code."""
    inner = tb
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        inner = inner.tb_next
    return inner or tb


def stack(frame: FrameType) -> str:
    """Return the calls a live thread is in, from the job's own code on."""
    frames = list(_outwards(frame))  # the innermost first
    ours = [frame.f_code.co_filename.startswith(_PACKAGE) for frame, _ in frames]
    if True in ours:
        length = len(ours) - ours[::-1].index(True)  # without what lies outside of this package
        while length and ours[length - 1]:
            length -= 1
        frames = frames[:length]
    return "".join(_formatted(traceback.StackSummary.extract(iter(frames[:MAX_FRAMES][::-1])))).rstrip("\n")


def _formatted(stack: traceback.StackSummary) -> list[str]:
    """Return the lines of *stack*: file names, function names and source lines are text that others have written."""
    return traceback.StackSummary.from_list([_harmless(frame) for frame in stack]).format()


def _harmless(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    lines = traceback.StackSummary.from_list([frame]).format()[0].split("\n")
    line = escaped(frame.line or "")
    if line == (frame.line or "") and all(escaped(text) == text for text in (frame.filename, frame.name, *lines)):
        return frame
    return traceback.FrameSummary(escaped(frame.filename), frame.lineno, escaped(frame.name), line=line)


def _outwards(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno or 0
        frame = frame.f_back


def strip(error: BaseException | None) -> None:
    """Let go of every frame that *error*, its causes and its group hold, and with them of the job's arguments."""
    left = [error]
    seen: set[int] = set()
    while left:
        last = left.pop()
        if last is None or id(last) in seen:
            continue
        seen.add(id(last))
        # Not by assignment: an error may be a frozen dataclass, or have a __setattr__ of its own.
        BaseException.with_traceback(last, None)
        left += (cause_of(last), context_of(last))
        left += _members(last)


def log(
    logger: logging.Logger,
    level: int,
    message: str,
    *args: object,
    text: str | None = None,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Write one record; *text* follows the message as a traceback would.

    The traceback goes in as text and not as ``exc_info``: a handler that keeps its records must not keep the job's
    frames and arguments alive, and a formatter would write the error's own text unescaped. Never raises.
    """
    if not logger.isEnabledFor(level):
        return

    def write() -> None:
        record = logger.makeRecord(logger.name, level, __file__, 0, message, args, None, "log", extra)
        record.exc_text = text
        logger.handle(record)

    guarded(write)


def guarded(call: Callable[[], Any]) -> BaseException | None:
    """Call code that is not ours and return what it raised; a Ctrl-C in the main thread goes through.

    One of the three broad excepts: receivers, error texts and loggers stand behind it.
    """
    try:
        call()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return error
    return None


def shielded(logger: logging.Logger, what: Callable[[], str], call: Callable[[], Any]) -> None:
    """Call code that must not harm its caller; what it raises is logged under the name that *what* gives."""
    error = guarded(call)
    if error is not None:
        name = ["something"]
        guarded(lambda: name.append(what()))
        log(logger, logging.ERROR, "%s raised %s", name[-1], describe(error), text=trace(error))
        strip(error)


def last_words(message: str) -> None:
    """Write *message* where nothing else can be relied on any more: to standard error, if there is one."""
    if sys.stderr is not None:
        guarded(lambda: sys.stderr.write(message + "\n"))

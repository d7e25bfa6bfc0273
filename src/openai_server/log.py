# -*- test-case-name: tests.test_log -*-
"""
The log: one line of JSON an event, with nothing in it that was not meant.

What this server's own code says at C{info} and above is written, and from
everybody else's code warnings and errors: other people's information may quote
a request. Of an event's fields only L{FIELDS} are written, and the message, so
that a field added for a text observer never leaks. Of an exception the class is
written and the places it passed, since its text may quote anything; only our
own exceptions are trusted with a text.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.python.reflect import qual
from zope.interface import implementer

#: Characters of one field, and of a message.
LONGEST_FIELD: Final = 200
LONGEST_MESSAGE: Final = 1000

#: Places of a traceback, the innermost ones.
_MOST_PLACES: Final = 20

#: A secret shorter than this would blank out half of every line.
_SHORTEST_SECRET: Final = 6

_OURS: Final = __name__.split(".")[0]

_encode = msgspec.json.Encoder().encode


#: The fields that are written, when an event has them. C{route} is a template
#: and never a path, C{model} is as the client gave it, C{ms} are milliseconds
#: from a request's head to its end, C{bytes} those of the answer's body, C{end}
#: the end code, C{session} is C{new}, C{continued} or C{forked}, C{retry} how
#: often the client says that it had sent the request before.
FIELDS: Final = (
    "requestId",
    "method",
    "route",
    "status",
    "end",
    "model",
    "stream",
    "ms",
    "bytes",
    "session",
    "retry",
)


class Output(Protocol):
    """
    Where lines go.
    """

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


@implementer(ILogObserver)
class JSONLog:
    """
    Writes each event as one line of ASCII, each control character escaped.
    """

    def __init__(self, openOutput: Callable[[], Output], secrets: Iterable[str] = ()) -> None:
        """
        @param openOutput: called at the first event, since this object is
            made before the process knows that it will run.
        @param secrets: texts that are blanked out wherever they come up.
        """
        self._openOutput = openOutput
        self._output: Output | None = None
        self._secrets = [_escaped(secret)[1:-1] for secret in secrets if len(secret) >= _SHORTEST_SECRET]

    def __call__(self, event: LogEvent) -> None:
        """
        Write the event, if it is for the log. A full disk or a closed pipe
        costs the line, and no request.
        """
        if _isForUs(event):
            with suppress(OSError, ValueError):
                self._write(lineFromEvent(event))

    def _write(self, line: str) -> None:
        for secret in self._secrets:
            line = line.replace(secret, "********")
        if self._output is None:
            self._output = self._openOutput()
        self._output.write(line + "\n")
        self._output.flush()


def outputOf(path: str | None) -> Callable[[], Output]:
    """
    Opens the log file, or is the standard output for None.

    The latter is looked at now: C{twistd} puts the log in its place.
    """
    if path is None:
        standard = sys.stdout
        return lambda: standard
    absolute = os.path.abspath(path)
    return lambda: LogFile.fromFullPath(absolute)


def observer() -> JSONLog:
    """
    For C{twistd --logger=openai_server.log.observer}: lines of JSON on the
    standard output, whatever application runs.
    """
    return JSONLog(outputOf(None))


def lineFromEvent(event: LogEvent) -> str:
    """
    The event as JSON on one line.
    """
    shown: dict[str, Any] = {
        "time": _time(event.get("log_time", 0.0)),
        "level": getattr(event.get("log_level"), "name", "info"),
        "from": _plain(event.get("log_namespace", "")),
        "message": _cut(_message(event), LONGEST_MESSAGE),
    }
    for name in FIELDS:
        if event.get(name) is not None:
            shown[name] = _plain(event[name])
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        shown["failure"] = _cut(_name(failure), LONGEST_FIELD)
        if event.get("log_level") is LogLevel.critical:
            shown["places"] = _places(failure)
    return _escaped(shown)


def _isForUs(event: LogEvent) -> bool:
    level = event.get("log_level") or LogLevel.info
    namespace = event.get("log_namespace") or ""
    least = LogLevel.info if _isOurs(namespace) else LogLevel.warn
    return bool(level >= least)


def _message(event: LogEvent) -> str:
    """
    The event's text; for an old-style failure only its reason, since its text
    has the whole traceback in it.
    """
    if "log_failure" in event and "log_text" in event:
        return str(event.get("why") or "failure")
    try:
        # Eight times as fast, and the same wherever it succeeds.
        return str(event["log_format"].format_map(event))
    except Exception:
        return formatEvent(event)


def _name(failure: Failure) -> str:
    """
    The class of an exception, and the text of one of ours.
    """
    kind = type(failure.value)
    return f"{qual(kind)}: {failure.value}" if _isOurs(kind.__module__) else qual(kind)


def _isOurs(module: object) -> bool:
    return str(module).split(".")[0] == _OURS


def _places(failure: Failure) -> list[str]:
    """
    The way that an exception took: file, line and function of each frame.
    """
    walked = traceback.walk_tb(failure.getTracebackObject())
    steps = traceback.StackSummary.extract(walked, lookup_lines=False)
    return [
        _cut(f"{'/'.join(step.filename.split(os.sep)[-3:])}:{step.lineno} {step.name}", LONGEST_FIELD)
        for step in steps[-_MOST_PLACES:]
    ]


def _plain(value: object) -> str | int | float | bool:
    """
    A value that JSON has, and not too much of it.
    """
    if isinstance(value, str):
        return _cut(value, LONGEST_FIELD)
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 3)
    return _cut(type(value).__name__, LONGEST_FIELD)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _escaped(value: object) -> str:
    """
    As JSON in printable ASCII.
    """
    with suppress(UnicodeEncodeError, OverflowError):
        line = _encode(value)
        if line.isascii() and b"\x7f" not in line:
            return line.decode("ascii")
    # Escapes what is not ASCII, and takes all text and all numbers.
    return json.dumps(value, separators=(",", ":"))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

# -*- test-case-name: tests.test_log -*-
"""
The log: one line of JSON an event, with nothing in it that was not meant.

What this server's own code says at C{info} and above is written, and from
everybody else's code warnings and errors: other people's information may quote
a request. Of an event's fields only L{FIELDS} are written, and the message, so
that a field added for a text observer never leaks. Of an exception the class is
written and the places it passed, since its text may quote anything; only our
own exceptions are trusted with a text.

A line is encoded once and written with the others of the same turn of the
reactor: a write for each request costs more than the request's line.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol, cast

import msgspec
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.reflect import qual
from zope.interface import implementer

from openai_server.logoutput import Output, outputOf
from openai_server.logwriter import LineWriter

#: Characters of one field, and of a message.
LONGEST_FIELD: Final = 200
LONGEST_MESSAGE: Final = 1000

#: Places of a traceback, the innermost ones.
_MOST_PLACES: Final = 20

#: A secret shorter than this would blank out half of every line.
_SHORTEST_SECRET: Final = 6
#: What keys look like that this server makes; it does not know them.
_KEY: Final = re.compile("sk-hum-[A-Za-z0-9_-]{43}")

#: Numbers beyond this are not written as such without a look.
_HUGE: Final = 1e15

#: Characters of lines that wait to be written, at most.
MOST_WAITING: Final = 64 * 1024

#: How Twisted begins to tell of an event that has no text.
_UNFORMATTABLE: Final = ("Unable to format event", "MESSAGE LOST")

_OURS: Final = __name__.split(".")[0]

_encode = msgspec.json.Encoder().encode


#: The fields that are written, when an event has them. C{route} is a template
#: and never a path, C{model} is as the client gave it, C{ms} are milliseconds
#: from a request's head to its end, C{bytes} those of the answer's body, C{end}
#: the end code, C{session} is what the header C{x-hum-session} says, C{retry}
#: how often the client says that it had sent the request before.
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


class Loop(Protocol):
    """
    What is used of the reactor.
    """

    @property
    def running(self) -> bool: ...

    def callLater(self, delay: float, callable: Callable[[], object], /) -> object: ...

    def addSystemEventTrigger(
        self, phase: str, eventType: str, callable: Callable[[], object], /
    ) -> object: ...


@implementer(ILogObserver)
class JSONLog:
    """
    Writes each event as one line of ASCII, each control character escaped.

    While the reactor runs, lines wait for the end of its turn, but for errors,
    which are written at once with all before them.

    @ivar least: events below this level are left out.
    """

    def __init__(
        self, openOutput: Callable[[], Output], secrets: Iterable[str] = (), loop: Loop | None = None
    ) -> None:
        """
        @param openOutput: called at the first event, since this object is
            made before the process knows that it will run.
        @param secrets: texts that are blanked out wherever they come up.
        @param loop: the reactor; without one, each line is written at once.
        """
        self.least: Any = LogLevel.info
        self._writer = LineWriter(openOutput, _noteOfDropped, loop)
        self._loop = loop
        self._waiting: list[str] = []
        self._waitingSize = 0
        self._isScheduled = False
        self._flushesAtStop = False
        self._secrets: list[str] = []
        for secret in secrets:
            self.hide(secret)

    def __call__(self, event: LogEvent) -> None:
        """
        Write the event, if it is for the log.
        """
        level = event.get("log_level") or LogLevel.info
        if not _isForUs(event, level, self.least):
            return
        line = lineFromEvent(event)
        self._waiting.append(line)
        self._waitingSize += len(line)
        loop = self._loop
        if (
            loop is None
            or not loop.running
            or self._waitingSize > MOST_WAITING
            or (level is not LogLevel.info and level >= LogLevel.error)
        ):
            self.flush()
        elif not self._isScheduled:
            self._schedule(loop)

    def flush(self) -> None:
        """
        Write the lines that wait.
        """
        if not self._waiting:
            return
        text = "\n".join(self._waiting) + "\n"
        self._waiting.clear()
        self._waitingSize = 0
        for secret in self._secrets:
            text = text.replace(secret, "********")
        if "sk-hum-" in text:
            text = _KEY.sub("sk-hum-********", text)
        self._writer.write(text.encode("ascii"))

    def forward(self, lines: bytes) -> None:
        """
        Write whole lines that another process of this server has logged.
        """
        self.flush()
        self._writer.write(lines)

    def reopen(self) -> None:
        """
        Go on in the file that has the log's name now: the other one was put
        aside.
        """
        self.flush()
        self._writer.reopen()

    def hide(self, secret: str) -> None:
        """
        Blank out this text too.
        """
        if len(secret) >= _SHORTEST_SECRET:
            self._secrets.append(escaped(secret)[1:-1])
            # One may be the beginning of another.
            self._secrets.sort(key=len, reverse=True)

    def _schedule(self, loop: Loop) -> None:
        self._isScheduled = True
        loop.callLater(0, self._turnOver)
        if not self._flushesAtStop:
            self._flushesAtStop = True
            loop.addSystemEventTrigger("after", "shutdown", self._finish)

    def _turnOver(self) -> None:
        self._isScheduled = False
        self.flush()

    def _finish(self) -> None:
        self.flush()
        self._writer.finish()


class EventLogger(Logger):
    """
    A logger whose C{info} gives its event to the observers as it is, for what
    is logged with each request: Twisted's own looks at all levels each time.
    """

    def info(self, format: str | None = None, **fields: object) -> None:
        """
        Log an event.
        """
        self.observer(
            {
                **fields,
                "log_logger": self,
                "log_level": LogLevel.info,
                "log_namespace": self.namespace,
                "log_source": self.source,
                "log_format": format,
                "log_time": time.time(),
            }
        )


def observer() -> JSONLog:
    """
    For C{twistd --logger=openai_server.log.observer}: lines of JSON on the
    standard output, whatever application runs.
    """
    from twisted.internet import reactor

    return JSONLog(outputOf(None), loop=cast("Loop", reactor))


def lineFromEvent(event: LogEvent) -> str:
    """
    Return the event as JSON on one line, without a line's end.
    """
    get = event.get
    seconds = get("log_time", 0.0)
    second = int(seconds)
    message = _message(event)
    level = get("log_level")
    shown: dict[str, Any] = {
        "time": f"{_secondText(second)}.{int((seconds - second) * 1000):03d}Z",
        "level": "info" if level is LogLevel.info else getattr(level, "name", "info"),
        "from": _plain(get("log_namespace", "")),
        "message": message if len(message) <= LONGEST_MESSAGE else _cut(message, LONGEST_MESSAGE),
    }
    for name in FIELDS:
        if name in event and (value := event[name]) is not None:
            kind = type(value)
            # The most usual ones without a call.
            if kind is int or kind is bool or (kind is str and len(value) <= LONGEST_FIELD):
                shown[name] = value
            elif kind is float and -_HUGE < value < _HUGE:
                shown[name] = round(value, 3)
            else:
                shown[name] = _plain(value)
    failure = get("log_failure") or get("failure")
    if isinstance(failure, Failure):
        shown["failure"] = _cut(_name(failure), LONGEST_FIELD)
        if event.get("log_level") is LogLevel.critical:
            shown["places"] = _places(failure)
    return escaped(shown)


def _noteOfDropped(count: int) -> bytes:
    note = {
        "log_time": time.time(),
        "log_level": LogLevel.warn,
        "log_namespace": __name__,
        "log_format": "{count} lines of the log were dropped: nobody took them in time",
        "count": count,
    }
    return lineFromEvent(note).encode("ascii") + b"\n"


def _isForUs(event: LogEvent, level: Any, least: Any) -> bool:
    isOurs = _isOurs(event.get("log_namespace") or "")
    # Comparing these constants is slow.
    if level is LogLevel.info:
        return isOurs and least is LogLevel.info
    return bool(level >= least and level >= (LogLevel.info if isOurs else LogLevel.warn))


def _message(event: LogEvent) -> str:
    """
    The event's text; for a failure from C{twisted.python.log} only its reason,
    since its text has the whole traceback in it.
    """
    if "log_text" in event and isinstance(event.get("failure"), Failure):
        return str(event.get("why") or "failure")
    if event.get("log_level") is not LogLevel.info:
        event = {name: _withoutText(value) for name, value in event.items()}
    try:
        # Eight times as fast, and the same wherever it succeeds.
        return str(event["log_format"].format_map(event))
    except Exception:
        text = formatEvent(event)
    # Twisted shows the whole event otherwise.
    return str(event.get("log_format")) if text.startswith(_UNFORMATTABLE) else text


def _withoutText(value: object) -> object:
    """
    Return a value as a message may have it: exceptions by their names.
    """
    if isinstance(value, Warning):
        return value
    if isinstance(value, BaseException):
        value = Failure(value)
    return _name(value) if isinstance(value, Failure) else value


def _name(failure: Failure) -> str:
    """
    The class of an exception, and the text of one of ours.
    """
    kind = type(failure.value)
    return f"{qual(kind)}: {failure.value}" if _isOurs(kind.__module__) else qual(kind)


@lru_cache(maxsize=256)
def _isOurs(module: str) -> bool:
    return module.split(".")[0] == _OURS


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


def escaped(value: object) -> str:
    """
    Return it as JSON in printable ASCII.
    """
    try:
        line = _encode(value)
        if line.isascii() and b"\x7f" not in line:
            return line.decode("ascii")
    except (UnicodeEncodeError, OverflowError):
        # The other encoder takes all text and all numbers.
        pass
    return json.dumps(value, separators=(",", ":"))


@lru_cache(maxsize=4)
def _secondText(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")

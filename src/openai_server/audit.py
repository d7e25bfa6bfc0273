# -*- test-case-name: tests.test_audit -*-
"""
The audit log: who asked when for what, and how that ended. One JSON object a
line for each request, with nothing of what was said and no key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger

from openai_server.log import escaped
from openai_server.logoutput import outputOf
from openai_server.logwriter import LineWriter
from openai_server.metrics import Counters
from openai_server.reports import RequestReport

#: For the user alone.
_MODE: Final = 0o600
#: Characters of a model's name: the client says it.
_LONGEST: Final = 200
#: Whoever asks for these wants to know whether the server lives.
_UNNOTED: Final = frozenset({"/", "/healthz", "/readyz"})


class AuditLog(Service):
    """
    Writes the audit log. Nobody waits for it: while it cannot be written, as
    on a full disk, a megabyte of lines waits, and what comes beyond that is
    dropped and counted.
    """

    _log = Logger()

    def __init__(
        self, path: str, reactor: Any, counters: Counters, now: Callable[[], float] = time.time
    ) -> None:
        """
        @param path: of the file; another program may put it aside and then
            have it opened again.
        @param now: the wall clock, in seconds since 1970.
        """
        self._path = path
        self._counters = counters
        self._now = now
        self._isBehind = False
        self._openOutput = outputOf(path, mode=_MODE)
        self._writer = LineWriter(self._openOutput, self._noteOfDropped, reactor)
        self.reopen = self._writer.reopen

    def startService(self) -> None:
        """
        Open the file.

        @raise OSError: it cannot be opened.
        """
        self._writer.open()
        super().startService()

    def stopService(self) -> None:
        """
        Write what is left.
        """
        super().stopService()
        self._writer.finish()

    def requestEnded(self, report: RequestReport) -> None:
        """
        Write its line.
        """
        if report.route in _UNNOTED:
            return
        self._writer.write(self._line(lineFields(report)))
        if self._writer.isBehind is not self._isBehind:
            self._noteBehind()

    def _noteBehind(self) -> None:
        self._isBehind = self._writer.isBehind
        if self._isBehind:
            self._counters.add("audit_stuck")
            self._log.warn("the audit log {path} cannot be written for now", path=self._path)
        else:
            self._log.info("the audit log {path} is written again", path=self._path)

    def _noteOfDropped(self, count: int) -> bytes:
        self._counters.add("audit_dropped", times=count)
        return self._line({"dropped": count})

    def _line(self, fields: dict[str, Any]) -> bytes:
        ended = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        line = escaped({"time": ended.replace("+00:00", "Z"), **fields})
        return line.encode("ascii") + b"\n"


def lineFields(report: RequestReport) -> dict[str, Any]:
    """
    Return what is written of a request beside the time of its end.
    """
    return {
        "requestId": report.requestId,
        "account": report.account or None,
        "method": report.method,
        "route": report.route,
        "model": None if report.model is None else report.model[:_LONGEST],
        "status": report.status,
        "end": report.end,
        "inputTokens": report.inputTokens,
        "outputTokens": report.outputTokens,
        "seconds": round(report.seconds, 3),
    }

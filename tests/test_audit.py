"""
Tests for L{openai_server.audit}.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
from twisted.logger import LogEvent, globalLogPublisher

from openai_server import logoutput
from openai_server.audit import AuditLog
from openai_server.logwriter import MOST_UNWRITTEN
from openai_server.metrics import Counters
from openai_server.reports import RequestReport
from tests.support import SyncCase, TestClock

REQUEST = RequestReport(
    "req_1", "a", "POST", "/v1/chat/completions", 200, "ok", "m", 1.23456, 0.5, 10, 20, "00-secret"
)


class AuditCase(SyncCase):
    """
    An audit log in a folder of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.path = folder / "audit.jsonl"
        self.clock = TestClock()
        self.counters = Counters()
        self.audit = AuditLog(str(self.path), self.clock, self.counters, lambda: 1_780_000_000.25)

    def start(self) -> None:
        """
        Open it, until the test ends.
        """
        self.audit.startService()
        self.addCleanup(self.audit.stopService)

    def end(self, **fields: Any) -> None:
        """
        A request ends that differs in these.
        """
        self.audit.requestEnded(msgspec.structs.replace(REQUEST, **fields))

    def lines(self, path: Path | None = None) -> list[Any]:
        """
        What is in the file.
        """
        return [json.loads(line) for line in (path or self.path).read_bytes().splitlines()]


class AuditTests(AuditCase):
    """
    What is written, and where.
    """

    def test_line(self) -> None:
        """
        One object for each request, with these fields and no others.
        """
        self.start()
        self.end()
        expected = {
            "time": "2026-05-28T20:26:40.250Z",
            "requestId": "req_1",
            "account": "a",
            "method": "POST",
            "route": "/v1/chat/completions",
            "model": "m",
            "status": 200,
            "end": "ok",
            "inputTokens": 10,
            "outputTokens": 20,
            "seconds": 1.235,
        }
        self.assertEqual(self.lines(), [expected])
        self.end(account="", model=None, inputTokens=None, outputTokens=None, status=401, end="auth")
        nobody = dict.fromkeys(["account", "model", "inputTokens", "outputTokens"])
        self.assertEqual(self.lines()[1], {**expected, **nobody, "status": 401, "end": "auth"})

    def test_strangeModel(self) -> None:
        """
        Whatever a client calls a model, its line is one short line of ASCII.
        """
        self.start()
        self.end(model="\n\x7f\u2028\ud800" + "x" * 9000)
        data = self.path.read_bytes()
        self.assertTrue(data.isascii())
        self.assertLess(len(data), 600)
        self.assertEqual(len(self.lines()), 1)

    def test_probes(self) -> None:
        """
        Whoever asks all the time whether the server lives is not written down.
        """
        self.start()
        for route in ("/", "/healthz", "/readyz"):
            self.end(route=route)
        self.assertEqual(self.lines(), [])

    def test_fileIsTheUsers(self) -> None:
        """
        Nobody else can read it.
        """
        former = os.umask(0)
        self.addCleanup(os.umask, former)
        self.start()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_cannotBeOpened(self) -> None:
        """
        The start fails.
        """
        self.path.mkdir()
        self.assertRaises(IsADirectoryError, self.audit.startService)

    def test_reopened(self) -> None:
        """
        When the file was put aside, what comes goes into another one.
        """
        self.start()
        self.end()
        aside = self.path.rename(self.path.with_suffix(".1"))
        self.end(requestId="req_2")
        self.audit.reopen()
        self.end(requestId="req_3")
        self.assertEqual([line["requestId"] for line in self.lines(aside)], ["req_1", "req_2"])
        self.assertEqual([line["requestId"] for line in self.lines()], ["req_3"])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)


class FullDiskTests(AuditCase):
    """
    A file that takes nothing for a while.
    """

    def setUp(self) -> None:
        super().setUp()
        self.isFull = False
        write = os.write

        def written(descriptor: int, data: bytes) -> int:
            if self.isFull:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data)

        self.patch(logoutput.os, "write", written)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def said(self) -> list[str]:
        """
        What the log was told of the audit log.
        """
        texts = (str(event.get("log_format")) for event in self.logged)
        return [text for text in texts if text.startswith("the audit log")]

    def test_waits(self) -> None:
        """
        V19: nobody is told but the log, once; the lines follow when there is room.
        """
        self.start()
        self.isFull = True
        for _ in range(3):
            self.end()
        self.assertEqual(len(self.said()), 1)
        self.assertEqual(self.counters.snapshot()["audit_stuck"], {"": 1})
        self.isFull = False
        self.clock.advance(2)
        self.assertEqual(len(self.lines()), 3)
        self.end()
        self.assertEqual(len(self.said()), 2)

    def test_tooMany(self) -> None:
        """
        What waits is bounded; the rest is dropped, counted, and told of.
        """
        self.start()
        self.isFull = True
        size = len(self.audit._line({"x": "x" * 1000}))
        for _ in range(MOST_UNWRITTEN // size + 1):
            self.end(requestId="x" * 1000)
        self.isFull = False
        self.clock.advance(2)
        [dropped] = [line["dropped"] for line in self.lines() if "dropped" in line]
        self.assertGreater(dropped, 0)
        self.assertEqual(self.counters.snapshot()["audit_dropped"], {"": dropped})

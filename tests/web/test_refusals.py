"""
Tests for L{openai_server.web.refusals}.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tests.web.support import WebCase


class RefusalsTests(WebCase):
    """
    K20: connections beyond the limit, and while all of them are busy.
    """

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._hear)
        self.addCleanup(globalLogPublisher.removeObserver, self._hear)

    def _hear(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("openai_server.web.refusals"):
            self.said.append(formatEvent(event))

    def test_onceAMinute(self) -> None:
        """
        The first is told of at once, and others with the next one after a
        minute.
        """
        self.site.maxConnections = 1
        self.assertEqual(self.said, [])
        self.begin(self.connect())
        self.assertEqual(len(self.said), 1)
        address = IPv4Address("TCP", "127.0.0.1", 1)
        for seconds, told in ((0, 1), (0, 1), (59.9, 1), (0.1, 2), (30, 2), (30, 3)):
            self.clock.advance(seconds)
            self.assertIsNone(self.site.buildProtocol(address))
            self.assertEqual(len(self.said), told)
        counts = ["1.", "4.", "2."]
        for line, count in zip(self.said, counts, strict=True):
            self.assertTrue(line.startswith("1 connections are open"), line)
            self.assertIn(f"the {count} time", line)

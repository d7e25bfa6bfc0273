"""
Tests for L{openai_server.sideport}.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from twisted.application.service import IService

from openai_server.greeting import Bound
from openai_server.service import OpenAIService, StartError, TurnedAway
from openai_server.sideport import SidePort
from tests.test_service import LOCAL, RecordingFront, ServiceCase

ASIDE = "tcp:9464:interface=127.0.0.1"


class SidePortTests(ServiceCase):
    """
    A port beside those of the API.
    """

    def setUp(self) -> None:
        super().setUp()
        self.aside: list[str] = []
        self.page = RecordingFront(self.aside)
        self.port = SidePort(self.reactor, ASIDE)
        self.where: Bound | None = None
        self.service = OpenAIService(self.reactor, self.clock, [LOCAL], 30, self.compose, [self.port])

    def compose(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> RecordingFront:
        """
        See L{openai_server.service.Compose}.
        """
        front = super().compose(bound, start)
        self.where = self.port.serve(self.page)
        start(self.port)
        return front

    def test_opensWithTheOthers(self) -> None:
        """
        With the privileges that the process may have to give up; it closes
        behind what was answered, before what is below.
        """
        self.service.privilegedStartService()
        self.assertEqual(self.events, ["listen 14620", "listen 9464"])
        self.service.startService()
        assert self.where is not None
        self.assertEqual(self.where.description, ASIDE)
        self.events.clear()
        self.front.open = 1
        stopped = self.service.stopService()
        self.assertNotIn("close 9464", self.events)
        self.front.end()
        self.successResultOf(stopped)
        self.assertEqual(self.events[-4:], ["closeIdle", "close 9464", "stop link", "stop registry"])
        self.assertEqual(self.aside, ["cut", "closeIdle"])

    def test_connections(self) -> None:
        """
        They are for what is served there; before that, and afterwards, they
        are cut.
        """
        self.service.privilegedStartService()
        factory = self.reactor.tcpServers[1][1]
        for isServed in (False, True, False):
            if isServed:
                self.service.startService()
            built = factory.buildProtocol(None)
            if isServed:
                self.assertEqual(built, "protocol for None")
                self.successResultOf(self.service.stopService())
            else:
                self.assertIsInstance(built, TurnedAway)

    def test_taken(self) -> None:
        """
        (P31) No port is left open when this one cannot be had.
        """
        self.reactor.refused[9464] = OSError(errno.EADDRINUSE, "Address already in use")
        error = self.assertRaises(StartError, self.service.privilegedStartService)
        self.assertEqual(str(error), f"cannot listen on {ASIDE}: Address already in use")
        self.assertEqual(self.events, ["listen 14620", "close 14620"])

    def test_severalOfWhichOneIsTaken(self) -> None:
        """
        Those that were opened before it are closed too.
        """
        ports = [self.port, SidePort(self.reactor, "tcp:9465:interface=127.0.0.1")]
        self.service = OpenAIService(self.reactor, self.clock, [LOCAL], 30, self.compose, ports)
        self.reactor.refused[9465] = OSError(errno.EADDRINUSE, "Address already in use")
        self.assertRaises(StartError, self.service.privilegedStartService)
        self.assertEqual(self.events, ["listen 14620", "listen 9464", "close 14620", "close 9464"])

    def test_roomsThatCannotBeJoined(self) -> None:
        """
        It closes too, though nobody has begun to serve it.
        """
        self.link.error = StartError("no key")
        self.assertRaises(StartError, self.service.startService)
        self.assertIn("close 9464", self.events)

    def test_stoppedBeforeItsStart(self) -> None:
        """
        So it does when the process stops before.
        """
        self.service.privilegedStartService()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.events[-2:], ["close 14620", "close 9464"])

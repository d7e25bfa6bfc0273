"""
Tests for L{openai_server.service}.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.policies import WrappingFactory

from openai_server import service
from openai_server.greeting import Bound
from openai_server.ports import listen
from openai_server.service import HANDOVER_TIMEOUT, HURRIED_TIMEOUT, STEP_TIMEOUT, OpenAIService, StartError
from tests.support import SyncCase, TestClock

LOCAL = "tcp:14620:interface=127.0.0.1"
LOCAL6 = r"tcp6:14620:interface=\:\:1"


class RecordingReactor(MemoryReactorClock):
    """
    A reactor in memory that notes when ports open and close.

    @ivar refused: ports that cannot be had, and why.
    @ivar closing: Deferreds for ports that take their time to close.
    """

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.refused: dict[int, OSError] = {}
        self.closing: list[Deferred[None]] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.refused:
            raise CannotListenError(interface, port, self.refused[port])
        self.events.append(f"listen {port}")
        listening = super().listenTCP(port, factory, backlog, interface)
        listening.stopListening = lambda: self._stopListening(port)
        return listening

    def _stopListening(self, port: int) -> Deferred[None]:
        self.events.append(f"close {port}")
        return self.closing.pop() if self.closing else succeed(None)


class RecordingFront:
    """
    A front that notes what it is told.

    @ivar open: how many answers are open.
    @ivar hasRoom: whether it takes anybody in.
    """

    hasRoom = True

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.open = 0
        self.cuts = True
        self._waiting: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any, /) -> Any:
        return f"protocol for {addr}" if self.hasRoom else None

    def portsOpened(self, ports: Sequence[Any]) -> None:
        """
        Nothing to note.
        """

    def handOver(self) -> Deferred[None]:
        self.events.append("handOver")
        return Deferred()

    def stopAccepting(self) -> None:
        self.events.append("stopAccepting")

    def whenIdle(self) -> Deferred[None]:
        self.events.append("whenIdle")
        if not self.open:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def cut(self) -> None:
        self.events.append("cut")
        if self.cuts:
            self.end()

    def closeIdle(self) -> None:
        self.events.append("closeIdle")

    def end(self) -> None:
        """
        All open answers end.
        """
        self.open = 0
        waiting, self._waiting = self._waiting, []
        for idle in waiting:
            idle.callback(None)


class RecordingService(Service):
    """
    A service that notes its start and its stop.

    @ivar stopping: what its stop waits for.
    @ivar error: what its start raises.
    """

    def __init__(self, name: str, events: list[str]) -> None:
        self.title = name
        self.events = events
        self.stopping: Any = None
        self.error: Exception | None = None

    def startService(self) -> None:
        self.events.append(f"start {self.title}")
        if self.error is not None:
            raise self.error
        super().startService()

    def stopService(self) -> Any:
        self.events.append(f"stop {self.title}")
        super().stopService()
        return self.stopping


class ServiceCase(SyncCase):
    """
    The service between recording neighbours, one list of events for all.
    """

    def setUp(self) -> None:
        super().setUp()
        self.events: list[str] = []
        self.clock = TestClock()
        self.reactor = RecordingReactor(self.events)
        self.front = RecordingFront(self.events)
        self.registry = RecordingService("registry", self.events)
        self.link = RecordingService("link", self.events)
        self.bound: list[Bound] = []
        self.service = self.make([LOCAL])

    def make(self, descriptions: Sequence[str]) -> OpenAIService:
        """
        A service that listens there.
        """
        return OpenAIService(self.reactor, self.clock, descriptions, 30, self.compose)

    def compose(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> RecordingFront:
        """
        See L{openai_server.service.Compose}.
        """
        self.bound = list(bound)
        start(self.registry)
        start(self.link)
        return self.front

    def start(self) -> None:
        """
        Start as C{twistd} does, and forget how.
        """
        self.service.privilegedStartService()
        self.service.startService()
        self.events.clear()

    def tearDown(self) -> None:
        """
        No timer is left behind.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assertTurnedAway(self, door: Any) -> None:
        """
        Whoever comes is cut, also behind what wraps the factory for TLS.
        """
        for factory in (door, WrappingFactory(door)):
            transport = StringTransport()
            factory.buildProtocol("x").makeConnection(transport)
            self.assertTrue(transport.disconnected)


class StartTests(ServiceCase):
    """
    Ports first, with all rights; then the rooms, from below.
    """

    def test_order(self) -> None:
        """
        Making the service opens nothing; then the privileged part opens the
        port, the other one the rest.
        """
        self.assertEqual(self.events, [])
        self.service.privilegedStartService()
        self.assertEqual(self.events, ["listen 14620"])
        self.service.startService()
        self.assertEqual(self.events, ["listen 14620", "start registry", "start link"])
        self.assertTrue(self.service.running)

    def test_startedWithoutThePrivilegedPart(self) -> None:
        """
        An application that is running already adds a service like this.
        """
        self.service.startService()
        self.assertEqual(self.events, ["listen 14620", "start registry", "start link"])

    def test_boundAddressesAreTold(self) -> None:
        """
        Those of all ports, each with its description.
        """
        self.service = self.make([LOCAL, LOCAL6])
        self.start()
        self.assertEqual([bound.description for bound in self.bound], [LOCAL, LOCAL6])
        self.assertIsInstance(self.bound[0].address, IPv4Address)
        self.assertIsInstance(self.bound[1].address, IPv6Address)

    def test_noRoom(self) -> None:
        """
        The front takes nobody in.
        """
        self.start()
        self.front.hasRoom = False
        self.assertTurnedAway(self.reactor.tcpServers[0][1])

    def test_connectionsGoToTheFront(self) -> None:
        """
        Once the rooms are joined; before that the door is shut.
        """
        self.service.privilegedStartService()
        door = self.reactor.tcpServers[0][1]
        self.assertTurnedAway(door)
        self.service.startService()
        self.assertEqual(door.buildProtocol("x"), "protocol for x")

    def test_portThatCannotBeHad(self) -> None:
        """
        In use, not permitted, not an address of this machine: one line names
        address and reason; nothing is left half alive.
        """
        for number, reason in (
            (errno.EADDRINUSE, "Address already in use"),
            (errno.EACCES, "Permission denied"),
            (errno.EADDRNOTAVAIL, "Cannot assign requested address"),
        ):
            self.events.clear()
            self.service = self.make(["tcp:1:interface=127.0.0.1", LOCAL])
            self.reactor.refused[14620] = OSError(number, reason)
            error = self.assertRaises(StartError, self.service.privilegedStartService)
            self.assertEqual(str(error), f"cannot listen on {LOCAL}: {reason}")
            self.assertEqual(self.events, ["listen 1", "close 1"])

    def test_descriptionThatMeansNothing(self) -> None:
        """
        The same for an endpoint that nobody provides.
        """
        self.service = self.make(["carrier-pigeon:7"])
        error = self.assertRaises(StartError, self.service.privilegedStartService)
        self.assertIn("cannot listen on carrier-pigeon:7: Unknown endpoint type", str(error))

    def test_slowEndpoint(self) -> None:
        """
        One that has not decided by the time of the start is refused: nobody
        would be there to hear that it failed.
        """
        self.patch(service, "listen", lambda reactor, description, factory: Deferred())
        self.assertRaises(StartError, self.service.privilegedStartService)

    def test_systemThatRefuses(self) -> None:
        """
        A folder or a socket that the rooms cannot have is no traceback.
        """
        for error in (
            OSError(errno.ENOSPC, "No space left on device", "/run/x"),
            CannotListenError("any", "/run/x", OSError("AF_UNIX path too long")),
        ):
            self.link.error = error
            refusal = self.assertRaises(StartError, self.service.startService)
            self.assertIn("/run/x", str(refusal))

    def test_roomsThatCannotBeJoined(self) -> None:
        """
        The ports close again, and what was started stops.
        """
        self.link.error = StartError("no key")
        self.assertRaises(StartError, self.service.startService)
        self.assertEqual(
            self.events,
            ["listen 14620", "start registry", "start link", "close 14620", "stop link", "stop registry"],
        )


class StopTests(ServiceCase):
    """
    P1: from the top down, and never for ever.
    """

    def test_idle(self) -> None:
        """
        Nothing to wait for: everything is down in the same turn, in order.
        """
        self.start()
        stopped = self.service.stopService()
        self.successResultOf(stopped)
        self.assertEqual(
            self.events,
            [
                "stopAccepting",
                "close 14620",
                "whenIdle",
                "closeIdle",
                "stop link",
                "stop registry",
            ],
        )
        self.assertFalse(self.service.running)

    def test_openAnswersMayEnd(self) -> None:
        """
        Their ends end the wait, and nobody is cut.
        """
        self.start()
        self.front.open = 1
        stopped = self.service.stopService()
        self.clock.advance(29.9)
        self.assertEqual(self.events, ["stopAccepting", "close 14620", "whenIdle"])
        self.front.end()
        self.successResultOf(stopped)
        self.assertEqual(self.events[3:], ["closeIdle", "stop link", "stop registry"])

    def test_drainTimeIsOver(self) -> None:
        """
        The rest is cut, before idle connections close and the link goes.
        """
        self.start()
        self.front.open = 1
        stopped = self.service.stopService()
        self.clock.advance(30)
        self.successResultOf(stopped)
        self.assertEqual(
            self.events[2:], ["whenIdle", "cut", "whenIdle", "closeIdle", "stop link", "stop registry"]
        )

    def test_passedPort(self) -> None:
        """
        P24: a port of systemd's closes first, and for a second those who were
        let in are served as ever; a second request ends that too.
        """
        for isHurried in (False, True):
            self.service = self.make(["systemd:domain=INET:index=0"])
            self.patch(
                service, "listen", lambda reactor, description, factory: listen(reactor, LOCAL, factory)
            )
            self.start()
            stopped = self.service.stopService()
            self.assertEqual(self.events, ["close 14620", "handOver"])
            if isHurried:
                self.service.endNow()
                self.clock.advance(HURRIED_TIMEOUT)
            else:
                self.clock.advance(HANDOVER_TIMEOUT)
            self.successResultOf(stopped)
            self.assertEqual(self.events[2:5], ["stopAccepting", "whenIdle", "closeIdle"])

    def test_cutThatDoesNotHelp(self) -> None:
        """
        An answer that is stuck after its error costs a second.
        """
        self.start()
        self.front.open, self.front.cuts = 1, False
        stopped = self.service.stopService()
        self.clock.advance(30)
        self.assertNoResult(stopped)
        self.clock.advance(STEP_TIMEOUT)
        self.successResultOf(stopped)

    def test_secondRequestEndsTheDrain(self) -> None:
        """
        As if the drain time were over.
        """
        self.start()
        self.front.open = 1
        stopped = self.service.stopService()
        self.service.endNow()
        self.successResultOf(stopped)
        self.assertEqual(
            self.events[2:], ["whenIdle", "cut", "whenIdle", "closeIdle", "stop link", "stop registry"]
        )

    def test_secondRequestMakesTheRestQuick(self) -> None:
        """
        Before the drain, too: the answers that are still open get no time.
        """
        self.start()
        self.front.open, self.front.cuts = 1, False
        self.reactor.closing.append(Deferred())
        stopped = self.service.stopService()
        self.service.endNow()
        self.clock.advance(STEP_TIMEOUT)
        self.clock.advance(0)
        self.assertIn("cut", self.events)
        self.clock.advance(HURRIED_TIMEOUT)
        self.successResultOf(stopped)

    def test_secondRequestWhenNothingStops(self) -> None:
        """
        Is no error.
        """
        self.service.endNow()
        self.start()
        self.front.open = 1
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.front.end()
        self.successResultOf(stopped)

    def test_neighboursThatNeverStop(self) -> None:
        """
        A port and a link that hang cost their time and no more.
        """
        self.start()
        self.reactor.closing.append(Deferred())
        self.link.stopping = Deferred()
        stopped = self.service.stopService()
        self.clock.advance(STEP_TIMEOUT)
        self.assertEqual(self.events[-1], "stop link")
        self.clock.advance(STEP_TIMEOUT * 2)
        self.successResultOf(stopped)
        self.assertEqual(self.events[-1], "stop registry")
        self.link.stopping.callback(None)

    def test_neighboursThatFail(self) -> None:
        """
        A step that raises is logged; the others are taken all the same.
        """
        self.start()
        self.front.stopAccepting = lambda: 1 / 0  # type: ignore[assignment, return-value, method-assign]
        self.link.stopping = Deferred()
        stopped = self.service.stopService()
        self.link.stopping.errback(RuntimeError())
        self.successResultOf(stopped)
        self.assertEqual(self.events, ["close 14620", "whenIdle", "closeIdle", "stop link", "stop registry"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_neverStarted(self) -> None:
        """
        A signal during the start: only the ports are there.
        """
        self.service.privilegedStartService()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.events, ["listen 14620", "close 14620"])

    def test_startedAgain(self) -> None:
        """
        A service can be stopped and started.
        """
        self.start()
        self.successResultOf(self.service.stopService())
        self.events.clear()
        self.service.startService()
        self.assertEqual(self.events, ["listen 14620", "start registry", "start link"])
        self.successResultOf(self.service.stopService())

    def test_noConnectionsWhileStopping(self) -> None:
        """
        Whoever slips in before the port is closed is sent away.
        """
        self.start()
        door = self.reactor.tcpServers[0][1]
        self.front.open = 1
        stopped = self.service.stopService()
        self.assertTurnedAway(door)
        self.front.end()
        self.successResultOf(stopped)

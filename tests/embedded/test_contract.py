"""
The same behaviour in memory and over a real socket: what the in-memory tests
rely on is what a client of the socket gets.
"""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport

from openai_server.clock import MonotonicClock
from tests.embedded.bees import Wire, definition
from tests.machinery.daemon import DaemonSettings, FaultyDaemon
from tests.support import AsyncCase, TestClock

SETTINGS = DaemonSettings(startUp=0.001, workerReturn=0.001)


class Caller(Protocol):
    """
    A client that collects what it is sent and tells whoever waits for it.
    """

    def __init__(self) -> None:
        self.received = b""
        self.isLost = False
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def tones(self) -> list[dict[str, Any]]:
        """
        All whole tones that came so far.
        """
        return [json.loads(line) for line in self.received.split(b"\n")[:-1]]

    def chis(self) -> list[str]:
        """
        The C{chi} of each tone.
        """
        return [tone["chi"] for tone in self.tones]

    def text(self) -> str:
        """
        All text so far.
        """
        return "".join(tone.get("delta", "") for tone in self.tones)

    def send(self, **tone: Any) -> None:
        """
        Send a tone.
        """
        assert self.transport is not None
        self.transport.write(json.dumps(tone).encode() + b"\n")

    def whenTrue(self, condition: Callable[[], bool]) -> Deferred[None]:
        """
        Fires when the condition holds, looked at with each read and the loss.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append((condition, waiting))
        self._look()
        return waiting

    def whenCame(self, chi: str, times: int = 1) -> Deferred[None]:
        """
        Fires when so many tones of this C{chi} have come.
        """
        return self.whenTrue(lambda: self.chis().count(chi) >= times)

    def dataReceived(self, data: bytes) -> None:
        """
        Collect.
        """
        self.received += data
        self._look()

    def connectionLost(self, reason: Any = None) -> None:
        """
        Note the loss.
        """
        self.isLost = True
        self._look()

    def _look(self) -> None:
        for each in list(self._waiting):
            condition, waiting = each
            if condition():
                self._waiting.remove(each)
                waiting.callback(None)


class _MemoryEnd(StringTransport):
    """
    The client's end of a connection in memory: what it writes reaches the
    daemon at once.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def write(self, data: bytes) -> None:
        """
        Hand over.
        """
        if not self._wire.isLost:
            self._wire.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        """
        Close.
        """
        self._wire.loseConnection()


class _DaemonEnd(Wire):
    """
    The daemon's end of a connection in memory.
    """

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self._caller = caller

    def write(self, data: bytes) -> None:
        """
        Hand over.
        """
        self._caller.dataReceived(data)

    def loseConnection(self) -> None:
        """
        Close both ends.
        """
        if not self.isLost:
            super().loseConnection()
            self._caller.connectionLost()


class Contract:
    """
    What holds in either world. The world is made by the class that mixes this in.
    """

    daemon: FaultyDaemon
    connect: Callable[[], Deferred[Caller]]
    settle: Callable[[], None]

    def test_breathOnConnectAndOnHello(self: Any) -> Deferred[None]:
        """
        One of each kind.
        """

        async def scenario() -> None:
            caller = await self.connect()
            caller.send(chi="hello", bee=["forager"], hive="test", hid="fbee_1")
            await caller.whenCame("breath", 2)
            self.assertEqual([tone["sessions"] for tone in caller.tones], [[], {}])

        return self.play(scenario)

    def test_aTurn(self: Any) -> Deferred[None]:
        """
        Two echoes, the text, the finish.
        """

        async def scenario() -> None:
            caller = await self.connect()
            caller.send(chi="prompt", sid="s1", modelId="echo", content="one two", rid="a-0")
            await caller.whenCame("finish")
            self.assertEqual(caller.chis()[:4], ["breath", "echo", "echo", "session-ready"])
            self.assertEqual(caller.text(), "one two")

        return self.play(scenario)

    def test_aCallAndItsResult(self: Any) -> Deferred[None]:
        """
        The prompt and the names in one write, as our bee does it.
        """

        async def scenario() -> None:
            caller = await self.connect()
            tool = definition("x")
            caller.send(chi="prompt", sid="s1", modelId="tool-one", content="go", tools=[tool])
            caller.send(chi="hello", hive="test", hid="fbee_1", tools=[tool])
            await caller.whenCame("tool-call")
            (call,) = [tone for tone in caller.tones if tone["chi"] == "tool-call"]
            self.assertNotIn("sigil", call)
            caller.send(chi="tool-result", sid="s1", callId=call["callId"], output="r", rid="a-0")
            await caller.whenCame("finish")
            self.assertEqual(caller.text(), "x says: r\n")

        return self.play(scenario)

    def test_aBurstReachesAReader(self: Any) -> Deferred[None]:
        """
        20,000 deltas, none of them lost.
        """

        async def scenario() -> None:
            caller = await self.connect()
            caller.send(chi="prompt", sid="s1", modelId="burst", content="20000")
            await caller.whenTrue(lambda: b'"finish"' in caller.received[-1000:])
            self.assertEqual(caller.text(), "".join(f"{n:06d} " for n in range(20_000)))

        return self.play(scenario)

    def test_invalidUTF8ClosesTheConnection(self: Any) -> Deferred[None]:
        """
        And only that one.
        """

        async def scenario() -> None:
            caller, other = await self.connect(), await self.connect()
            caller.transport.write(b"\xff\n")
            await caller.whenTrue(lambda: caller.isLost)
            other.send(chi="perf-mark", rid="a-0")
            await other.whenCame("echo")

        return self.play(scenario)

    def test_restart(self: Any) -> Deferred[None]:
        """
        The connection is lost; the next one finds a daemon that knows nothing
        of the turn, and soon its worker.
        """

        async def scenario() -> None:
            caller = await self.connect()
            caller.send(chi="prompt", sid="s1", modelId="script", content='#script [{"silence": 1}]')
            await caller.whenCame("session-ready")
            restarted = self.daemon.restart()
            await caller.whenTrue(lambda: caller.isLost)
            await restarted
            again = await self.connect()
            await again.whenCame("breath")
            self.settle()
            again.send(chi="prompt", sid="s2", modelId="nobody's", content="x", rid="a-0")
            await again.whenCame("error")
            self.assertEqual(again.chis(), ["breath", "echo", "echo", "error"])

        return self.play(scenario)


class MemoryTests(Contract, AsyncCase):
    """
    In memory, with a clock that runs whenever somebody waits.
    """

    def setUp(self) -> None:
        """
        Start a daemon without a folder.
        """
        super().setUp()
        self.clock = TestClock()
        self.daemon = FaultyDaemon(clock=self.clock, settings=SETTINGS)
        self.daemon.start()
        self.addCleanup(self.daemon.stop)

    async def connect(self) -> Caller:
        """
        A connected client.
        """
        caller, client = Caller(), self.daemon.buildProtocol()
        assert client is not None
        wire = _DaemonEnd(caller)
        wire.protocol = client
        caller.makeConnection(_MemoryEnd(wire))
        client.makeConnection(wire)
        return caller

    def settle(self) -> None:
        """
        Let some time pass.
        """
        self.clock.advance(0.1)

    def play(self, scenario: Callable[[], Any]) -> Deferred[None]:
        """
        Run a scenario, and the clock until it is through.
        """
        running = Deferred.fromCoroutine(scenario())
        self.clock.pump([0.001] * 200)
        self.assertTrue(running.called, "the scenario still waits")
        return running


class SocketTests(Contract, AsyncCase):
    """
    Over a real socket, with the real reactor.
    """

    def setUp(self) -> None:
        """
        Start a daemon that listens.
        """
        super().setUp()
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        # The path of a Unix socket has a limit of some hundred bytes.
        self.daemon = FaultyDaemon(
            clock=MonotonicClock(reactor),  # type: ignore[arg-type]
            settings=SETTINGS,
            directory=Path("/tmp") if len(str(directory.absolute())) > 60 else directory,
            reactor=reactor,  # type: ignore[arg-type]
        )
        self.daemon.startService()
        self.addCleanup(self.daemon.stopService)

    async def connect(self) -> Caller:
        """
        A connected client.
        """
        endpoint = UNIXClientEndpoint(reactor, str(self.daemon.socketPath))
        caller: Caller = await connectProtocol(endpoint, Caller())
        self.addCleanup(self.close, caller)
        return caller

    def close(self, caller: Caller) -> Deferred[None]:
        """
        Close a client's end and wait until it is closed.
        """
        assert caller.transport is not None
        caller.transport.loseConnection()
        return caller.whenTrue(lambda: caller.isLost)

    def settle(self) -> None:
        """
        Time passes by itself.
        """

    def play(self, scenario: Callable[[], Any]) -> Deferred[None]:
        """
        Run a scenario.
        """
        return Deferred.fromCoroutine(scenario())

    def test_theSocketIsPrivateAndGoesAtTheStop(self) -> Deferred[None]:
        """
        Mode 0600 in a folder of 0700; after the stop there is neither.
        """
        path = self.daemon.socketPath
        assert path is not None
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)

        def stopped(_: None) -> None:
            self.assertFalse(path.parent.exists())

        return self.daemon.stopService().addCallback(stopped)

    def test_aClientThatDoesNotReadLosesTones(self) -> Deferred[None]:
        """
        As with the real daemon some more than its queue of 1024 arrive, the
        worker's turn ends meanwhile, and the finish never comes.
        """

        async def scenario() -> None:
            caller = await self.connect()
            handle = caller.transport.getHandle()
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.transport.pauseProducing()
            caller.send(chi="prompt", sid="s1", modelId="burst", content="20000")
            other = await self.connect()
            other.send(chi="attach", sid="s1")
            await other.whenTrue(lambda: b'"finish"' in other.received[-1000:])
            slow = self.daemon.clients[0]
            self.assertTrue(slow.isCrowded)
            caller.transport.resumeProducing()
            await caller.whenTrue(lambda: not slow.isCrowded)
            caller.send(chi="perf-mark", rid="a-0")
            await caller.whenCame("echo")
            count = caller.chis().count("chunk")
            self.assertNotIn("finish", caller.chis())
            self.assertTrue(1024 < count < 3000, count)
            self.assertEqual(caller.text(), "".join(f"{n:06d} " for n in range(count - 1)))

        return self.play(scenario)

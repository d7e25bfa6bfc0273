"""
A daemon played by hand: raw lines in, what this bee wrote out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import inf
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.daemon.endpoint import CannotConnect
from openai_server.daemon.interfaces import Bee, Turn
from openai_server.daemon.link import Link
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.wire.ends import TurnEnd
from openai_server.wire.tones import Bind, Prompt, Shown, ToolDefinition
from tests.support import SyncCase, TestClock

HID = "fbee_" + "ab" * 32
BREATH: dict[str, Any] = {"chi": "breath", "from": "daemon", "sessions": [], "protoVersion": "0.7.0"}


def chunk(sid: str, text: str, **members: Any) -> dict[str, Any]:
    """
    One text delta.
    """
    return {"chi": "chunk", "sid": sid, "chunkType": "text_delta", "delta": text, **members}


def call(sid: str, callId: str, name: str = "f", **members: Any) -> dict[str, Any]:
    """
    One tool-call, routed by name unless it has a sigil.
    """
    return {"chi": "tool-call", "sid": sid, "callId": callId, "toolName": name, "args": {}, **members}


def finish(sid: str, **members: Any) -> dict[str, Any]:
    """
    A good end.
    """
    return {"chi": "finish", "sid": sid, "finishReason": "success", **members}


def noWorker(sid: str) -> dict[str, Any]:
    """
    What humd says without a worker for the model.
    """
    return {"chi": "error", "sid": sid, "from": "daemon", "message": "no worker bee advertises model 'm'"}


def tool(name: str, description: str = "d") -> ToolDefinition:
    """
    A tool without parameters.
    """
    return ToolDefinition(name=name, description=description, inputSchema={"type": "object"})


def linesFrom(tones: Sequence[dict[str, Any]]) -> bytes:
    """
    The tones as the daemon sends them.
    """
    return b"".join(json.dumps(tone).encode() + b"\n" for tone in tones)


class Transport(StringTransport):
    """
    Remembers each write, and whether it was ever paused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.wasPaused = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)

    def pauseProducing(self) -> None:
        self.wasPaused = True
        super().pauseProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Connection:
    """
    One connection, seen from the daemon's end.
    """

    def __init__(self, protocol: IProtocol) -> None:
        self.transport = Transport()
        self.protocol: Any = protocol
        self.isOpen = True
        protocol.makeConnection(self.transport)

    def say(self, *tones: dict[str, Any]) -> None:
        """
        These tones arrive in one read.
        """
        self.protocol.dataReceived(linesFrom(tones))

    def lose(self) -> None:
        """
        The connection is lost.
        """
        self.isOpen = False
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def heard(self) -> list[dict[str, Any]]:
        """
        What this bee wrote since this was last asked, as JSON objects.
        """
        written = self.transport.value()
        self.transport.clear()
        self.transport.writes.clear()
        return [json.loads(line) for line in written.splitlines()]

    def heardOf(self, chi: str) -> list[dict[str, Any]]:
        """
        Of what L{heard} gives, the tones of one kind.
        """
        return [tone for tone in self.heard() if tone["chi"] == chi]


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """
    Connects when it may, and remembers all connections and attempts.
    """

    def __init__(self, clock: TestClock) -> None:
        self.connections: list[Connection] = []
        self.attempts: list[float] = []
        self.problem: Exception | None = None
        self.isSlow = False
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        assert not any(connection.isOpen for connection in self.connections), "two connections"
        self.attempts.append(self._clock.seconds())
        if self.problem is not None:
            return fail(self.problem)
        if self.isSlow:
            return Deferred()
        protocol = protocolFactory.buildProtocol(None)
        assert protocol is not None
        self.connections.append(Connection(protocol))
        return succeed(protocol)


class FakeRegistry:
    """
    A registry whose file is set by hand.
    """

    def __init__(self) -> None:
        self.isKnown = False
        self.version: object = None
        self.writtenAt = inf
        self._models: tuple[str, ...] = ()
        self._seen: set[str] = set()
        self._changed: list[Any] = []

    def rewrite(self, *models: str) -> None:
        """
        The daemon rewrites its file.
        """
        self._set(True, models)

    def remove(self) -> None:
        """
        The file is gone.
        """
        self._set(False, ())

    def _set(self, isKnown: bool, models: tuple[str, ...]) -> None:
        self.version = object()
        self.isKnown, self._models = isKnown, models
        self._seen.update(models)
        for changed in self._changed:
            changed()

    def bees(self) -> Sequence[Bee]:
        return [Bee(name="w", hid="", models=self._models, tools=())]

    def models(self) -> Sequence[str]:
        return self._models

    def hasSeen(self, model: str) -> bool:
        return model in self._seen

    def look(self) -> None:
        pass

    def onChange(self, changed: Any) -> None:
        self._changed.append(changed)


class Listening:
    """
    An audience that remembers what it was told, in order.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.batches: list[list[Shown]] = []
        self.turn: Turn | None = None
        self.over: TurnEnd | None = None

    def turnEchoed(self) -> None:
        self.told.append("echoed")

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        self.batches.append(list(tones))
        self.told.extend(tones)

    def turnEnded(self, end: TurnEnd) -> None:
        self.told.append(end)

    def turnOver(self, end: TurnEnd) -> None:
        assert self.over is None, "told twice that the turn is over"
        self.over = end

    @property
    def text(self) -> str:
        """
        All deltas together.
        """
        return "".join(str(tone.delta) for batch in self.batches for tone in batch if hasattr(tone, "delta"))

    @property
    def end(self) -> TurnEnd | None:
        """
        How the turn ended, if it has.
        """
        last = self.told[-1] if self.told else None
        return (
            None
            if last == "echoed" or any(last is tone for batch in self.batches for tone in batch)
            else last
        )


HeardBy = TypeVar("HeardBy", bound=Listening)


class LinkCase(SyncCase):
    """
    A link, its daemon played by hand, and a look at the end that nothing is left.
    """

    timeouts = WaitLimits()
    registerTools = True

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.endpoint = FakeEndpoint(self.clock)
        self.registry = FakeRegistry()
        self.daemonProcess: str | None = "4711"
        self.jitter = 1.0
        self.link = self.newLink()
        self.addCleanup(self.nothingIsLeft)

    def newLink(self) -> Link:
        """
        A link to this daemon.
        """
        return Link(
            clock=self.clock,
            endpoint=self.endpoint,
            hid=HID,
            version="0.1",
            registry=self.registry,
            bind=lambda: Bind(host="127.0.0.1", port=14620),
            source="https://example.org/",
            timeouts=self.timeouts,
            registerTools=self.registerTools,
            incarnationOf=lambda transport: self.daemonProcess,
            now=lambda: 1_700_000_000.0,
            jitter=lambda: self.jitter,
        )

    def nothingIsLeft(self) -> None:
        """
        Stop, and see that no timer and no turn is left and reading was never paused.
        """
        stopped = self.link.stopService() if self.link.running else succeed(None)
        for connection in self.endpoint.connections:
            self.assertFalse(connection.transport.wasPaused)
            if connection.isOpen:
                connection.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.link.turnCount, 0)

    @property
    def daemon(self) -> Connection:
        """
        The latest connection.
        """
        return self.endpoint.connections[-1]

    def start(self) -> Connection:
        """
        Start, and let the daemon breathe.
        """
        self.link.startService()
        self.daemon.say(BREATH)
        self.daemon.heard()
        return self.daemon

    def reconnect(self) -> Connection:
        """
        Lose the connection, and let the next one be made.
        """
        self.daemon.lose()
        self.clock.advance(0.05)
        return self.daemon

    def fails(self, reason: str) -> None:
        """
        From now on, connecting fails.
        """
        self.endpoint.problem = CannotConnect(reason)

    def ask(self, sid: str = "s1", **members: Any) -> Listening:
        """
        Ask something.
        """
        return self.askFor(Listening(), sid, **members)

    def askFor(
        self, listening: HeardBy, sid: str = "s1", formerTools: Sequence[ToolDefinition] = (), **members: Any
    ) -> HeardBy:
        """
        Ask something for this audience.
        """
        members = {"modelId": "m", "content": "hi", **members}
        prompt = Prompt(rid=self.link.newRid(), sid=sid, hive="openai-server", **members)
        listening.turn = self.link.ask(prompt, listening, formerTools)
        return listening

    def asked(self, sid: str = "s1", **members: Any) -> Listening:
        """
        Ask something, and let the daemon echo it.
        """
        self.daemon.heard()
        listening = self.ask(sid, **members)
        rid = self.daemon.heardOf("prompt")[0]["rid"]
        self.daemon.say({"chi": "echo", "rid": rid, "ok": True})
        return listening

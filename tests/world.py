"""
The whole server in memory, for one test: the embedded daemon, the link to it,
the HTTP side, clients with real flow control, and one clock.

What the server sends to the daemon passes the strict recorder, and nothing may
be left when the test ends: no turn, no slot, no call, no timer, no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import LogEvent, globalLogPublisher
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface import implementer

from openai_server.api.dialect import Dialect
from openai_server.config import Configuration
from openai_server.daemon.link import Link
from openai_server.daemon.registry import FileRegistry
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.metrics import Counters
from openai_server.reports import RequestReports, TurnReport
from openai_server.sessions.upstreams import NamedDaemon
from openai_server.store.interfaces import Store
from openai_server.store.opening import storeFrom
from openai_server.telemetry.service import Telemetry
from openai_server.web.front import WebFront, boundsFrom
from tests.machinery.daemon import DaemonSettings, FaultyConnection, FaultyDaemon
from tests.recorder import StrictRecorder
from tests.store.support import InlineWorkers
from tests.support import SyncCase, TestClock
from tests.web.transports import WireTransport

HID = "fbee_" + "cd" * 32
NOW = 1_780_000_000.0

#: The same for every test: a real start takes 2 s, a test's 0.2.
START_UP = 0.2


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    The way to an embedded daemon, or to none while that is down.
    """

    def __init__(self, daemon: FaultyDaemon) -> None:
        self._daemon = daemon
        self._accepted: list[FaultyConnection] = []
        self.pumps: list[IOPump] = []

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint.connect}.
        """
        server: Any = self._daemon.buildProtocol()
        if server is None:
            return fail(ConnectionRefusedError())
        client: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        self._accepted.append(server)
        # No byte moves before the client has its protocol, as with a reactor.
        ends = FakeTransport(server, True), FakeTransport(client, False)
        pump = connect(server, ends[0], client, ends[1], greet=False)
        self.pumps.append(pump)
        return succeed(client)

    def cut(self) -> None:
        """
        Cut the connections, which only the daemon hears of.
        """
        self.pumps.clear()
        for server in self._accepted:
            if server.isConnected:
                server.disconnect()


class Client:
    """
    One HTTP connection of a client's, and what it has read.

    @ivar api: the one that it asks in.
    @ivar isAsking: it has asked for an answer in the words of that.
    """

    def __init__(self, world: World, kernelSize: int = 1 << 30) -> None:
        self._world = world
        self.api = world.api
        self.isAsking = False
        self.wire = WireTransport(world.front.site.buildProtocol(None), kernelSize)

    def send(self, data: bytes) -> None:
        """
        Send raw bytes, and let everything happen that follows from them.
        """
        self.wire.send(data)
        self._world.flush()

    def post(self, body: object, path: str | None = None, **headers: str) -> Client:
        """
        Post JSON; underscores in the names of headers stand for hyphens.

        @param body: what chat is asked, and said in the words of the client's
            API; or, with a path, any body.
        """
        if path is None:
            self.isAsking, path = True, self.api.path
            body = self.api.body(body) if isinstance(body, dict) else body
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"host": "127.0.0.1", "content-type": "application/json"} | headers
        lines = [f"POST {path} HTTP/1.1", f"Content-Length: {len(encoded)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + encoded)
        return self

    def leave(self) -> None:
        """
        Go away.
        """
        self.wire.leave()
        self._world.flush()

    # What was read.

    @property
    def head(self) -> list[str]:
        """
        The lines of the last answer's head; none when there is no answer yet.
        """
        return self.wire.received.partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def status(self) -> int | None:
        """
        The status, None before there is one.
        """
        first = self.head[0].split()
        return int(first[1]) if first else None

    def header(self, name: str) -> str | None:
        """
        The value of a header of the answer.
        """
        for line in self.head[1:]:
            found, _, value = line.partition(": ")
            if found.lower() == name:
                return value
        return None

    @property
    def content(self) -> bytes:
        """
        The body so far, chunked coding taken off.
        """
        raw = self.wire.received.partition(b"\r\n\r\n")[2]
        if self.header("transfer-encoding") != "chunked":
            return raw
        pieces = []
        while raw and not raw.startswith(b"0\r\n"):
            size, _, raw = raw.partition(b"\r\n")
            pieces.append(raw[: int(size, 16)])
            raw = raw[int(size, 16) + 2 :]
        return b"".join(pieces)

    @property
    def isComplete(self) -> bool:
        """
        The body has come to its proper end.
        """
        if self.header("transfer-encoding") == "chunked":
            return self.wire.received.endswith(b"\r\n0\r\n\r\n")
        length = self.header("content-length")
        return length is not None and len(self.content) == int(length)

    @property
    def json(self) -> Any:
        """
        The body as JSON.
        """
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        """
        The error object of the body.
        """
        return self.json["error"]

    @property
    def message(self) -> Any:
        """
        The message of a whole answer.
        """
        return self.api.message(self)

    @property
    def events(self) -> list[Any]:
        """
        The events of a stream: objects, and C{"[DONE]"}. Comments are none.
        """
        found = []
        for line in self.content.split(b"\n\n")[:-1]:
            event = line.decode()
            if event.startswith(":"):
                continue
            # What comes before the data is its name.
            name, _, data = event.partition("data: ")
            assert name == "" or (name.startswith("event: ") and name.count("\n") == 1), event
            found.append(data if data == "[DONE]" else json.loads(data))
        return found

    @property
    def deltas(self) -> list[Any]:
        """
        The deltas of a stream of chat's.
        """
        return [
            choice["delta"]
            for event in self.events
            if isinstance(event, dict)
            for choice in event.get("choices", ())
        ]

    @property
    def text(self) -> str:
        """
        The text of a stream so far.
        """
        return self.api.text(self)

    @property
    def finishReason(self) -> str | None:
        """
        How an answer says that it is finished.
        """
        return self.api.finishReason(self) if self.isStream or self.isComplete else None

    @property
    def calls(self) -> list[dict[str, Any]]:
        """
        The tool calls of the answer.
        """
        return self.api.calls(self)

    @property
    def usage(self) -> dict[str, Any]:
        """
        What the answer has cost.
        """
        return self.api.usage(self)

    @property
    def failure(self) -> dict[str, Any] | None:
        """
        The error that a stream ends with.
        """
        return self.api.failure(self)

    @property
    def looksComplete(self) -> bool:
        """
        Somebody may take this for a whole answer.
        """
        if not self.isStream:
            return self.status == 200 and self.isComplete
        if self.api.isCut:
            return bool("[DONE]" in self.events or self.finishReason or self.isComplete)
        return self.finishReason is not None or (self.isComplete and self.failure is None)

    @property
    def isStream(self) -> bool:
        """
        The answer is a stream of events.
        """
        return (self.header("content-type") or "").startswith("text/event-stream")


class Machine:
    """
    What outlasts a server: its daemon, its files, its wall clock.

    @ivar worlds: the servers that run here beside each other.
    @ivar recorder: sees all that passes between servers and daemon.
    """

    def __init__(self, test: SyncCase, daemonSettings: Mapping[str, Any] | None = None) -> None:
        self.clock = TestClock()
        self.folder = Path(test.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.daemon = FaultyDaemon(
            clock=self.clock,
            settings=DaemonSettings(**{"startUp": START_UP, **(daemonSettings or {})}),
            directory=self.folder,
            now=self.now,
        )
        self.recorder = StrictRecorder()
        self.recorder.watch(self.daemon)
        self.daemon.start()
        self.worlds: list[World] = []
        self._test = test
        test.addCleanup(self._end)

    def now(self) -> float:
        """
        The time of day.
        """
        return NOW + self.clock.seconds()

    def _end(self) -> None:
        self._test.successResultOf(self.daemon.stop())
        self._test.assertEqual(self.recorder.violations, [])
        self._test.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])
        self._test.assertEqual(list(self.folder.iterdir()), [], "files are left")


class World:
    """
    The server, started and connected to its daemon.

    @ivar api: the one that its clients ask in: the test's.
    @ivar machine: where it runs; the first, where it has daemons on several.
    @ivar links: the ways to all of its daemons.
    @ivar recorder: sees all that passes between server and daemon.
    @ivar ends: the end codes of all requests so far.
    @ivar logged: every log event.
    @ivar turns: what was told of turns that are over.
    """

    def __init__(
        self,
        test: SyncCase,
        *,
        daemonSettings: Mapping[str, Any] | None = None,
        timeouts: WaitLimits | None = None,
        isConnected: bool = True,
        dialects: Mapping[str, Dialect] | None = None,
        machine: Machine | None = None,
        upstreams: Mapping[str, tuple[Machine, float]] | None = None,
        reports: Sequence[RequestReports] = (),
        isAlone: bool = True,
        hid: str = HID,
        opened: Store | None = None,
        clock: TestClock | None = None,
        workers: InlineWorkers | None = None,
        **settings: Any,
    ) -> None:
        """
        @param reports: who hears of requests beside the metrics, and wants to
            know their traces.
        @param hid: its name, another one for each of several beside each other.
        @param opened: what lasts, started, in place of what the settings say;
            with the clock and the workers that it has.
        @param machine: where it runs, if that has been there before and will
            be afterwards: then the server has a clock of its own.
        @param upstreams: several, by the names that the server has for their
            daemons, with the weights of these.
        @param isAlone: whether no other server uses its database.
        """
        self._test = test
        self.api = test.api
        self._isGuest = machine is not None or upstreams is not None
        self._machines = upstreams or {"": (machine or Machine(test, daemonSettings), 1.0)}
        self.machine = machine = next(each for each, _ in self._machines.values())
        self.clock = (clock or TestClock()) if self._isGuest else machine.clock
        self.folder, self.daemon, self.recorder = machine.folder, machine.daemon, machine.recorder
        self.configuration = Configuration(**{"store": "memory:", **settings})
        self.turns: list[TurnReport] = []
        self._isStopped = False
        counters = Counters()
        self.workers = workers or InlineWorkers()
        self.store = opened or storeFrom(
            self.configuration.store,
            boundsFrom(self.configuration),
            clock=self.clock,
            counters=counters,
            workers=self.workers,
            now=machine.now,
            isAlone=isAlone,
        )
        if opened is None:
            self.store.startService()
        self.endpoints = [MemoryEndpoint(each.daemon) for each, _ in self._machines.values()]
        self.links = [
            self._linkTo(name, endpoint, hid, timeouts or WaitLimits())
            for name, endpoint in zip(self._machines, self.endpoints, strict=True)
        ]
        self.endpoint, self.link = self.endpoints[0], self.links[0]
        self.registry = self.link.registry
        self.telemetry = Telemetry(None, self.clock, self.configuration, counters)
        self.front = WebFront(
            clock=self.clock,
            configuration=self.configuration,
            daemons=[
                NamedDaemon(link, name, weight)
                for link, (name, (_, weight)) in zip(self.links, self._machines.items(), strict=True)
            ],
            hid=hid,
            runtimeDirectory=self.folder,
            now=machine.now,
            dialects=dialects,
            store=self.store,
            counters=counters,
            requestReports=[*self.telemetry.reports, *reports],
            isTraced=bool(reports),
            beside=self.telemetry.routes,
            turnReports=[self, self.telemetry.figures],
        )
        self.telemetry.watch(self.links, self.store, self.front)
        self.clients: list[Client] = []
        for each, _ in self._machines.values():
            each.worlds.append(self)
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        test.addCleanup(self._end)
        for link in self.links:
            link.registry.startService()
            link.startService()
        self.telemetry.startService()
        self.front.startService()
        self.flush()
        if isConnected:
            # Past the time in which "no worker" means "not yet".
            self.advance(6)

    def _linkTo(self, name: str, endpoint: MemoryEndpoint, hid: str, timeouts: WaitLimits) -> Link:
        machine, _ = self._machines[name]
        return Link(
            clock=self.clock,
            endpoint=endpoint,
            hid=hid,
            version="0",
            registry=FileRegistry(str(machine.daemon.registryPath), self.clock),
            timeouts=timeouts,
            registerTools=self.configuration.registerTools,
            incarnationOf=lambda transport: str(machine.daemon.incarnation),
            name=name,
            now=machine.now,
            jitter=lambda: 0.5,
        )

    # Time and bytes.

    def flush(self) -> None:
        """
        Move all bytes that are under way, until nothing moves.
        """
        moved = True
        while moved:
            moved = False
            for world in self.machine.worlds:
                for endpoint in world.endpoints:
                    moved |= sum(pump.pump() for pump in endpoint.pumps) > 0
                for client in world.clients:
                    client.wire.run()

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """
        Let time pass, in steps, with all bytes that move meanwhile.
        """
        self.flush()
        while seconds > 1e-9:
            for world in self.machine.worlds:
                world.clock.advance(min(step, seconds))
            if self._isGuest:
                for machine, _ in self._machines.values():
                    machine.clock.advance(min(step, seconds))
            seconds -= step
            self.flush()
        for world in self.machine.worlds:
            for client in world.clients:
                client.wire.read()

    # Clients.

    def client(self, kernelSize: int = 1 << 30) -> Client:
        """
        A client that has connected.

        @param kernelSize: bytes that the network keeps for a client that does
            not read.
        """
        client = Client(self, kernelSize)
        self.clients.append(client)
        return client

    def ask(
        self,
        content: str | Sequence[Mapping[str, Any]],
        *,
        model: str = "script",
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Client:
        """
        Ask for an answer; no time passes.

        @param content: one user message, or all messages.
        """
        messages = [{"role": "user", "content": content}] if isinstance(content, str) else list(content)
        body = {"model": model, "messages": messages, **fields}
        client = self.client().post(body, **(headers or {}))
        client.wire.read()
        return client

    def script(self, *steps: Mapping[str, Any], **fields: Any) -> Client:
        """
        Ask a model that does these steps.
        """
        return self.ask("#script " + json.dumps(steps), **fields)

    # What was seen.

    def turnEnded(self, report: TurnReport) -> None:
        """
        See L{openai_server.reports.TurnReports.turnEnded}.
        """
        self.turns.append(report)

    @property
    def ends(self) -> list[str]:
        """
        The end code of each request so far, in the order of the ends.
        """
        return [event["end"] for event in self.logged if "end" in event and "requestId" in event]

    def sent(self, *chis: str) -> list[dict[str, Any]]:
        """
        The tones of these kinds that the server has sent.
        """
        return self.recorder.sent(*chis)

    def until(self, holds: Callable[[], bool], seconds: float = 5.0) -> None:
        """
        Let time pass until something holds.
        """
        for _ in range(int(seconds / 0.05)):
            if holds():
                return
            self.advance(0.05, 0.05)
        self._test.assertTrue(holds(), "it never came to hold")

    # The end.

    def settle(self) -> None:
        """
        Let every turn come to its end, and look whether anything is left.
        """
        self.advance(1)
        submitter = self.front.submitter
        self._test.assertEqual(
            {"turns": self._turnCount, "slots": submitter.upstreams.taken, "calls": len(submitter.calls)},
            {"turns": 0, "slots": 0, "calls": 0},
        )

    def stop(self) -> None:
        """
        Stop the server in good order; the daemon goes on.
        """
        self._isStopped = True
        for client in self.clients:
            client.wire.leave()
        self.flush()
        self.front.stopService()
        self.telemetry.stopService()
        stopped = [link.stopService() for link in self.links]
        self.advance(3)
        for each in stopped:
            self._test.successResultOf(each)
        for link in self.links:
            link.registry.stopService()
        for client in self.clients:
            if client.isAsking:
                self.api.check(client)
        self._test.successResultOf(self.store.stopService())
        if self._isGuest:
            self._test.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])
        for machine, _ in self._machines.values():
            machine.worlds.remove(self)
        self._assertNothingIsLeft()

    def kill(self) -> None:
        """
        Let the process of the server die where it stands.
        """
        self._isStopped = True
        for machine, _ in self._machines.values():
            machine.worlds.remove(self)
        self.workers.kill()
        self.clients.clear()
        # It never hears of this, and its clock stands still.
        for endpoint in self.endpoints:
            endpoint.cut()

    def _end(self) -> None:
        globalLogPublisher.removeObserver(self.logged.append)
        if not self._isStopped:
            self.stop()

    def _assertNothingIsLeft(self) -> None:
        submitter = self.front.submitter
        slots = submitter.upstreams
        self._test.assertEqual((slots.taken, slots.waiting, self._turnCount), (0, 0, 0))

    @property
    def _turnCount(self) -> int:
        return sum(link.turnCount for link in self.links)

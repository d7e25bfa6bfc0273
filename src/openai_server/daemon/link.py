# -*- test-case-name: tests.daemon.test_link -*-
"""
The connection to the daemon, kept up.

L{Link} is the L{openai_server.daemon.interfaces.Daemon} of the running
program: it connects, says hello, and connects again when the connection is
lost. Everything about turns is its router's.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from msgspec import Raw
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.daemon.connector import AttemptWaiters, Backoff, Connector, NotingEndpoint
from openai_server.daemon.endpoint import CannotConnect, SpareDescriptor, peerProcess
from openai_server.daemon.interfaces import Audience
from openai_server.daemon.protocol import ThrumProtocol
from openai_server.daemon.registration import Registration
from openai_server.daemon.registry import FileRegistry
from openai_server.daemon.router import Router
from openai_server.daemon.turn import PromptedTurn
from openai_server.daemon.waitlimits import DEFAULT_LIMITS, WaitLimits
from openai_server.wire.ids import RequestIds
from openai_server.wire.tones import (
    HIVE,
    PROTO_VERSION,
    Bind,
    Breath,
    FromBee,
    FromDaemon,
    Hello,
    Prompt,
    Propensity,
    ToolCall,
    ToolDefinition,
)

#: The chi values that this bee speaks and understands.
CHIS: Final = (
    "hello",
    "prompt",
    "cancel",
    "attach",
    "tool-result",
    "perf-mark",
    "breath",
    "echo",
    "session-ready",
    "chunk",
    "tool-call",
    "finish",
    "error",
)


class Link(Service):
    """
    The one connection to the daemon, and what is asked over it.

    Start and stop it as a service; the registry is a service of its own.

    @ivar daemonName: which daemon it is, where there are several.
    @ivar incarnation: of the daemon that was reached last.
    @ivar counts: tones and calls that were dropped or refused, by reason.
    @ivar badTones: lines of the daemon's that could not be read, by reason.
    @ivar connections: how often the daemon was reached.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        hid: str,
        version: str,
        registry: FileRegistry,
        bind: Callable[[], Bind | None] = lambda: None,
        source: str | None = None,
        timeouts: WaitLimits = DEFAULT_LIMITS,
        registerTools: bool = True,
        incarnationOf: Callable[[ITransport], str | None] = peerProcess,
        name: str = "",
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        @param endpoint: the way to the daemon, like a
            L{openai_server.daemon.endpoint.SocketEndpoint}.
        @param hid: this bee's persistent id.
        @param version: this program's.
        @param bind: the HTTP address, when it is known.
        @param source: a URL for humans.
        @param registerTools: whether the names of prompts' tools go into the
            hello; False for daemons that route calls by sid.
        @param incarnationOf: tells one daemon process from the next.
        @param name: which daemon it is, where there are several: a word without
            braces.
        @param now: the wall clock in seconds, for ids.
        @param jitter: a number from 0 up to 1, for the delay between attempts.
        """
        self.counts: Counter[str] = Counter()
        self.badTones: Counter[str] = Counter()
        self.connections = 0
        self._clock = clock
        self._hid = hid
        self._version = version
        self._registry = registry
        self._bind = bind
        self._source = source
        self._timeouts = timeouts
        self._incarnationOf = incarnationOf
        self.daemonName = name
        self._called = f"the daemon {name}".rstrip()
        self._backoff = Backoff(jitter)
        self._rids = RequestIds(now)
        self._spare = SpareDescriptor()
        self._router = Router(
            clock=clock,
            timeouts=timeouts,
            registration=Registration(self._hello, registerTools),
            registry=registry,
            rids=self._rids,
            now=now,
            counts=self.counts,
            breathed=self._breathed,
        )
        registry.onChange(self._router.registryChanged)
        self._problem: str | None = "not started"
        self.incarnation: str | None = None
        self._reached: list[Deferred[str | None]] = []
        self._protoVersion: object = PROTO_VERSION
        factory = Factory.forProtocol(cast("Any", self._newProtocol))
        factory.noisy = False
        self._connector = Connector(
            NotingEndpoint(endpoint, self._spare, self._attemptFailed),
            factory,
            retryPolicy=self._backoff.delay,
            clock=clock,
        )
        self._waiters = AttemptWaiters(clock, timeouts.attempt)

    def change(self, firstLife: float, stall: float, turn: float) -> None:
        """
        Wait for other times, in seconds, from now on: a turn that runs already
        has them with the next thing that it waits for.
        """
        self._timeouts = replace(self._timeouts, firstLife=firstLife, stall=stall, turn=turn)
        self._router.limits = self._timeouts

    # The service.

    def startService(self) -> None:
        """
        Connect, and go on trying.
        """
        super().startService()
        self._problem = "not connected yet"
        self._spare.hold()
        self._connector.start()

    def stopService(self) -> Deferred[None]:
        """
        Cancel all turns, and close the connection when that is sent, or
        a second later.

        @return: fires when the connection is closed.
        """
        super().stopService()
        self._router.stop()
        protocol = self._router.protocol
        self._problem = "stopped"
        self._waiters.attemptEnded()
        closing = None
        if protocol is not None:
            protocol.close()
            closing = self._clock.callLater(self._timeouts.close, protocol.abort, "stopped")
        stopped = self._connector.stop()
        return stopped.addBoth(self._stopped, closing)

    def _stopped(self, result: Any, closing: Any) -> None:
        self._spare.release()
        if closing is not None and closing.active():
            closing.cancel()

    # The daemon, as the rest of the server sees it.

    @property
    def whyNotReady(self) -> str | None:
        protocol = self._router.protocol
        if protocol is not None and protocol.isReady and protocol.backlog.isOver:
            return "the daemon does not read what it is sent"
        return self._problem

    def whenTried(self) -> Deferred[None] | None:
        if self._problem is None or not self.running:
            return None
        waiting = self._waiters.join()
        self._connector.hasten()
        return None if waiting.called else waiting

    def whenReached(self) -> Deferred[str | None]:
        reached: Deferred[str | None] = Deferred(self._reached.remove)
        self._reached.append(reached)
        if self._router.isReady:
            self._wasReached()
        return reached

    def _wasReached(self) -> None:
        reached, self._reached = self._reached, []
        for each in reached:
            each.callback(self.incarnation)

    @property
    def registry(self) -> FileRegistry:
        return self._registry

    @property
    def turnCount(self) -> int:
        """
        How many turns are not over, the draining ones included.
        """
        return len(self._router)

    def turnStates(self) -> Mapping[str, int]:
        """
        Return how many turns are in which state.
        """
        return self._router.states()

    def newRid(self) -> str:
        return self._rids.next()

    @property
    def liveTools(self) -> Mapping[str, ToolDefinition]:
        return self._router.liveTools

    def ask(
        self, prompt: Prompt, audience: Audience, formerTools: Sequence[ToolDefinition] = ()
    ) -> PromptedTurn:
        return self._router.ask(prompt, audience, formerTools)

    def adopt(
        self,
        sid: str,
        model: str,
        calls: Sequence[ToolCall],
        tools: Sequence[ToolDefinition],
        audience: Audience,
    ) -> PromptedTurn:
        return self._router.adopt(sid, model, calls, tools, audience)

    def isLive(self, sid: str) -> bool:
        return self._router.isLive(sid)

    def tidy(self) -> None:
        self._router.tidy()

    def onStray(self, listener: Callable[[ToolCall], None] | None) -> None:
        self._router.onStray = listener

    def give(self, call: ToolCall) -> None:
        self._router.tonesReceived([call])

    def refuse(self, call: ToolCall) -> None:
        self._router.refuse(call)

    # One connection after the other.

    def opening(self, protocol: ThrumProtocol) -> Iterable[FromBee]:
        assert protocol.transport is not None
        self._router.protocol = protocol
        incarnation = self._incarnationOf(protocol.transport)
        isSame = incarnation is not None and incarnation == self.incarnation
        self.incarnation = incarnation
        return self._router.opening(isSame)

    def connectionReady(self, protocol: ThrumProtocol) -> None:
        self._backoff.reset()
        self.connections += 1
        self._note(None)
        self._router.connectionReady()
        self._wasReached()
        self._waiters.attemptEnded()

    def tonesReceived(self, tones: list[FromDaemon]) -> None:
        self._router.tonesReceived(tones)

    def connectionGone(self, protocol: ThrumProtocol, why: str) -> None:
        self._spare.hold()
        if self.running:
            self._note(why)
        self._router.connectionGone()
        self._waiters.attemptEnded()

    def _newProtocol(self) -> ThrumProtocol:
        return ThrumProtocol(
            receiver=self,
            clock=self._clock,
            timeouts=self._timeouts,
            newRid=self.newRid,
            badTones=self.badTones,
        )

    def _hello(self, tools: Sequence[ToolDefinition]) -> Hello:
        return Hello(
            bee=["forager"],
            hive=HIVE,
            hid=self._hid,
            sender=self._hid,
            version=self._version,
            protoVersion=PROTO_VERSION,
            propensity=Propensity(),
            chis=list(CHIS),
            tools=[Raw(tool.encoded) for tool in tools],
            provides=["session"],
            bind=self._bind(),
            source=self._source,
        )

    def _attemptFailed(self, failure: Failure) -> None:
        if not self.running:
            # The attempt was given up by us.
            return
        if failure.check(CannotConnect):
            self._note(str(failure.value))
        else:
            self._note(f"cannot connect: {failure.value.__class__.__name__}")
        self._waiters.attemptEnded()

    def _note(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if problem is None:
            self._log.info(f"connected to {self._called}")
        else:
            self._log.warn(f"no connection to {self._called}: {{problem}}", problem=problem)

    def _breathed(self, breath: Breath) -> None:
        if breath.protoVersion == self._protoVersion:
            return
        self._protoVersion = breath.protoVersion
        self._log.warn(
            f"{self._called} speaks version {{theirs!r}} of thrum, this server {{ours}}",
            theirs=str(breath.protoVersion)[:40],
            ours=PROTO_VERSION,
        )

"""
An embedded daemon in a test's hands: it can be watched, made to misbehave,
killed and brought back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from openai_server.embedded.connection import BeeConnection
from openai_server.embedded.daemon import EmbeddedDaemon
from openai_server.embedded.lines import lineFromMembers
from openai_server.embedded.models import Model
from openai_server.embedded.settings import WorkerSettings
from openai_server.embedded.state import DaemonState
from openai_server.embedded.worker import EmbeddedWorker
from openai_server.wire.tones import PROTO_VERSION
from tests.machinery.models import TEST_MODELS


class Observer(Protocol):
    """
    Sees all that passes between the daemon and its clients. Connections are
    named by their number: 1 for the first that this daemon object accepted.
    """

    def connected(self, connection: int) -> None:
        """
        A client has connected.
        """

    def lineReceived(self, line: bytes, connection: int) -> None:
        """
        A client has sent a line, here without its newline.
        """

    def toneSent(self, line: bytes, connection: int) -> None:
        """
        A line goes to a client.
        """


@dataclass(frozen=True, kw_only=True)
class DaemonSettings(WorkerSettings):
    """
    A worker with the models for tests, which speak without a pause.

    @ivar workerReturn: seconds after the daemon's return until workers are back.
    """

    models: Mapping[str, Model] = field(default_factory=lambda: dict(TEST_MODELS))
    pace: float = 0.0
    workerReturn: float = 1.0


@dataclass(kw_only=True)
class Faults:
    """
    What is wrong with the daemon just now; tests change it as they go.

    @ivar muteBreath: no breath is sent.
    @ivar muteEchoes: no echo is sent.
    @ivar closeOnConnect: connections are accepted and closed at once.
    @ivar protoVersion: what the breath says.
    @ivar dropTone: asked for each line (C{bytes}, with its newline) that goes
        to a client; those it is true for are lost.
    @ivar rewrite: given each such line, and gives what goes to the client in
        its place: nothing, other lines, half a line.
    @ivar pieces: sizes in bytes: output goes out in pieces of these sizes, one
        a turn of the reactor, and in full when the sizes have run out.
    @ivar losesPrompt: asked for each prompt (its members): those it is true
        for are echoed and then forgotten.
    """

    muteBreath: bool = False
    muteEchoes: bool = False
    closeOnConnect: bool = False
    protoVersion: str = PROTO_VERSION
    dropTone: Callable[[bytes], bool] | None = None
    rewrite: Callable[[bytes], Sequence[bytes]] | None = None
    pieces: Iterable[int] = ()
    losesPrompt: Callable[[Mapping[str, Any]], bool] | None = None

    def applied(self, line: bytes) -> Sequence[bytes]:
        """
        Return what goes to a client in place of a line.
        """
        isBreath = line.startswith(b'{"chi":"breath"')
        if (isBreath and self.muteBreath) or (self.muteEchoes and line.startswith(b'{"chi":"echo"')):
            return []
        if isBreath and self.protoVersion != PROTO_VERSION:
            line = lineFromMembers({**json.loads(line), "protoVersion": self.protoVersion})
        if self.dropTone is not None and self.dropTone(line):
            return []
        return [line] if self.rewrite is None else self.rewrite(line)


class FaultyConnection(BeeConnection):
    """
    A connection with its daemon's faults.
    """

    def __init__(self, state: DaemonState, number: int, daemon: FaultyDaemon) -> None:
        super().__init__(state, number)
        self._daemon = daemon
        self._pieces: Iterator[int] = iter(())
        self._trickle = b""
        self._trickling: IDelayedCall | None = None

    def connectionMade(self) -> None:
        if self._daemon.faults.closeOnConnect:
            assert self.transport is not None
            self.transport.loseConnection()
            return
        self._pieces = iter(self._daemon.faults.pieces)
        if self._daemon.observer is not None:
            self._daemon.observer.connected(self.number)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._trickle = b""
        if self._trickling is not None:
            self._trickling.cancel()
            self._trickling = None
        super().connectionLost(reason)

    def lineReceived(self, line: bytes) -> bool:
        if self._daemon.lineObserver is not None:
            self._daemon.lineObserver(line)
        if self._daemon.observer is not None:
            self._daemon.observer.lineReceived(line, self.number)
        return super().lineReceived(line)

    def toneReceived(self, tone: dict[str, Any]) -> None:
        loses = self._daemon.faults.losesPrompt
        if tone["chi"] == "prompt" and loses is not None and loses(tone):
            # The sid is owned all the same; a prompt without one is only echoed.
            super().toneReceived({"chi": "attach", "sid": tone["sid"]})
            tone = {**tone, "sid": ""}
        super().toneReceived(tone)

    def send(self, lines: list[bytes]) -> None:
        if self.isConnected:
            super().send([each for line in lines for each in self._daemon.faults.applied(line)])

    def write(self, lines: list[bytes]) -> None:
        if self._daemon.observer is not None:
            for line in lines:
                self._daemon.observer.toneSent(line, self.number)
        if self._trickling is None:
            size = next(self._pieces, None)
            if size is None:
                super().write(lines)
                return
            self._trickling = self._daemon.clock.callLater(0, self._writePiece, size)
        self._trickle += b"".join(lines)

    def stopReading(self) -> None:
        """
        Read nothing more from this client: its sent bytes pile up on its side.
        """
        assert self.transport is not None
        self.transport.pauseProducing()  # type: ignore[attr-defined]

    def goOnReading(self) -> None:
        """
        Read from this client again.
        """
        assert self.transport is not None
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    def _writePiece(self, size: int) -> None:
        assert self.transport is not None
        self._trickling = None
        piece, self._trickle = self._trickle[:size], self._trickle[size:]
        self.transport.write(piece)
        if self._trickle:
            following = next(self._pieces, len(self._trickle))
            self._trickling = self._daemon.clock.callLater(0, self._writePiece, following)


class FaultyDaemon(EmbeddedDaemon):
    """
    An embedded daemon that can be watched and harmed.

    @ivar faults: what is wrong with it just now.
    @ivar lineObserver: called with each line that a client sends, without its
        newline.
    @ivar observer: sees all that passes.
    """

    def __init__(
        self, *, clock: IReactorTime, settings: DaemonSettings | None = None, **options: Any
    ) -> None:
        terms = settings or DaemonSettings()
        super().__init__(clock=clock, settings=terms, **options)
        self.faults = Faults()
        self.lineObserver: Callable[[bytes], None] | None = None
        self.observer: Observer | None = None
        self._workerReturn = terms.workerReturn
        self._returning: IDelayedCall | None = None

    @property
    def clients(self) -> Sequence[BeeConnection]:
        """
        The connections that are open, in order.
        """
        return [] if self.state is None else self.state.clients

    @property
    def isIdle(self) -> bool:
        """
        Whether no worker has a turn running or waiting.
        """
        return all(worker.isIdle for worker in self.workers)

    def start(self) -> None:
        """
        Start as a service.
        """
        self.startService()

    def stop(self) -> Deferred[None]:
        """
        Stop as a service.
        """
        return self.stopService()

    def stopService(self) -> Deferred[None]:
        self._callOffReturn()
        return super().stopService()

    def buildProtocol(self, addr: IAddress | None = None) -> FaultyConnection | None:
        built = super().buildProtocol(addr)
        assert built is None or isinstance(built, FaultyConnection)
        return built

    def connectionTo(self, state: DaemonState, number: int) -> FaultyConnection:
        return FaultyConnection(state, number, self)

    # What may happen to it.

    def crash(self) -> Deferred[None]:
        """
        Die: connections are cut, every turn is forgotten; the workers run on.

        @return: fires when nothing listens any more.
        """
        self._callOffReturn()
        return self.goDown()

    def comeBack(self) -> None:
        """
        Start again. The workers are back a little later.
        """
        self.comeUp()
        self._returning = self.clock.callLater(self._workerReturn, self._workersReturn)

    def restart(self) -> Deferred[None]:
        """
        Die and start again.

        @return: fires when it listens again.
        """
        return self.crash().addCallback(lambda _: self.comeBack())

    def cutConnections(self) -> None:
        """
        Cut all connections, and go on.
        """
        if self.state is not None:
            self.state.cutConnections()

    def killWorker(self, worker: EmbeddedWorker) -> None:
        """
        Let a worker die with all its processes. Its manifest disappears; nobody
        is told.
        """
        worker.stop()
        self.workers.remove(worker)
        if self.state is not None:
            self.state.removeWorker(worker)

    def killWorkers(self) -> None:
        """
        Let all workers die.
        """
        for worker in list(self.workers):
            self.killWorker(worker)

    def _callOffReturn(self) -> None:
        if self._returning is not None and self._returning.active():
            self._returning.cancel()

    def _workersReturn(self) -> None:
        if self.state is not None:
            for worker in self.workers:
                self.state.addWorker(worker)

# -*- test-case-name: tests.embedded.test_daemon -*-
"""
The embedded daemon: the server side of thrum, in this process.

It does what humd 0.31.18 was seen to do, not what would be convenient: it
never waits for a slow reader, tells nobody when a worker dies, and routes
tool-calls by the names in the latest hellos alone.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from openai_server.embedded.connection import BeeConnection
from openai_server.embedded.settings import WorkerSettings
from openai_server.embedded.state import DaemonState
from openai_server.embedded.worker import EmbeddedWorker
from openai_server.runtime import makeFolder


class EmbeddedDaemon(Service):
    """
    A daemon with a worker, as a service. Connections come in over its socket,
    or, in memory, as protocols from L{buildProtocol}.

    @ivar settings: how its workers behave.
    @ivar now: the wall clock in seconds.
    @ivar incarnation: a number that is another one after a restart.
    @ivar workers: those that are alive, whether the daemon knows them yet or not.
    @ivar state: what the running daemon knows, or None while it is down.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        settings: WorkerSettings | None = None,
        directory: Path | None = None,
        reactor: IReactorUNIX | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param clock: what it waits with.
        @param directory: where it makes its private folder, for the registry
            file and the socket; None: no folder and neither of them.
        @param reactor: what it listens with; None: no socket.
        @param now: the wall clock in seconds, for C{dusk}.
        """
        self.clock = clock
        self.settings = settings or WorkerSettings()
        self.now = now
        self.incarnation = 0
        self.workers: list[EmbeddedWorker] = []
        self.state: DaemonState | None = None
        self._directory = directory
        self._reactor = reactor
        self._folder: Path | None = None
        self._port: IListeningPort | None = None
        self._connections = 0
        self._workersMade = 0

    @property
    def socketPath(self) -> Path | None:
        """
        Where it listens, while it is started and has a socket.
        """
        return None if self._folder is None or self._reactor is None else self._folder / "thrum.sock"

    @property
    def registryPath(self) -> Path | None:
        """
        Its registry file, while it is started and has a folder.
        """
        return None if self._folder is None else self._folder / "bees.json"

    # Start and stop.

    def startService(self) -> None:
        """
        Start the daemon and one worker with all models; listen.
        """
        super().startService()
        if self._directory is not None:
            self._folder = makeFolder(self._directory)
        self.comeUp()
        self.addWorker(*self.settings.models)

    def stopService(self) -> Deferred[None]:
        """
        Stop everything and remove what was made.

        @return: fires when the socket is closed and the folder gone.
        """
        super().stopService()
        while self.workers:
            self.workers.pop().stop()
        return self.goDown().addCallback(lambda _: self._removeFolder())

    def comeUp(self) -> None:
        """
        Listen, as a daemon that knows nothing yet.
        """
        self.incarnation += 1
        self.state = DaemonState(self.now, self.registryPath)
        if self._reactor is not None and self.socketPath is not None:
            path = str(self.socketPath)
            self._port = self._reactor.listenUNIX(path, _Listener(self), mode=stat.S_IRUSR | stat.S_IWUSR)

    def goDown(self) -> Deferred[None]:
        """
        Cut all connections and forget every turn; the workers run on.

        @return: fires when nothing listens any more.
        """
        state, self.state = self.state, None
        if state is not None:
            state.close()
        port, self._port = self._port, None
        return succeed(None) if port is None else _closed(port)

    # Who comes in.

    def buildProtocol(self, addr: IAddress | None = None) -> BeeConnection | None:
        """
        Return the protocol of a new connection, or None while the daemon is down.
        """
        if self.state is None:
            return None
        self._connections += 1
        return self.connectionTo(self.state, self._connections)

    def connectionTo(self, state: DaemonState, number: int) -> BeeConnection:
        """
        Make the protocol of a connection; a subclass may make another kind.
        """
        return BeeConnection(state, number)

    def addWorker(self, *models: str) -> EmbeddedWorker:
        """
        Connect a worker with these models, all of them among the settings'.
        """
        self._workersMade += 1
        name = f"worker-{self._workersMade}"
        worker = EmbeddedWorker(name, models, self.settings, self.clock, int(self.now() * 1000))
        self.workers.append(worker)
        if self.state is not None:
            self.state.addWorker(worker)
        return worker

    # Inside.

    def _removeFolder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class _Listener(Factory):
    """
    Takes connections in for a daemon, which is a service and not a factory.
    """

    noisy = False

    def __init__(self, daemon: EmbeddedDaemon) -> None:
        self._daemon = daemon

    def buildProtocol(self, addr: IAddress | None) -> BeeConnection | None:
        return self._daemon.buildProtocol(addr)


def _closed(port: IListeningPort) -> Deferred[None]:
    """
    Close a port.

    @return: fires when nothing listens any more. The file of its socket, which
        it removes, may be gone with its folder.
    """

    def vanished(failure: Failure) -> None:
        failure.trap(FileNotFoundError)

    return succeed(None).addCallback(lambda _: port.stopListening()).addErrback(vanished)

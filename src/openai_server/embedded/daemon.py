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
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from openai_server.embedded.client import Client, Observer
from openai_server.embedded.hall import Hall
from openai_server.embedded.registry import RegistryFile
from openai_server.embedded.settings import Faults, Settings
from openai_server.embedded.worker import Worker
from openai_server.runtime import makeFolder


class EmbeddedDaemon(Service):
    """
    A daemon with a worker, as a service. Connections come in over its socket,
    or, in memory, as protocols from L{buildProtocol}.

    @ivar settings: how it behaves.
    @ivar faults: what is wrong with it just now.
    @ivar now: the wall clock in seconds.
    @ivar incarnation: a number that is another one after a restart.
    @ivar lineObserver: called with each line that a client sends, without its
        newline.
    @ivar observer: sees all that passes; for tests.
    @ivar workers: those that are alive, whether the daemon knows them yet or not.
    @ivar hall: what the running daemon knows, or None while it is down.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        settings: Settings | None = None,
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
        self.settings = settings or Settings()
        self.faults = Faults()
        self.now = now
        self.incarnation = 0
        self.lineObserver: Callable[[bytes], None] | None = None
        self.observer: Observer | None = None
        self.workers: list[Worker] = []
        self.hall: Hall | None = None
        self._directory = directory
        self._reactor = reactor
        self._folder: Path | None = None
        self._port: IListeningPort | None = None
        self._connections = 0
        self._workersMade = 0
        self._returning: IDelayedCall | None = None

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

    @property
    def clients(self) -> Sequence[Client]:
        """
        The connections that are open, in order.
        """
        return [] if self.hall is None else self.hall.clients

    @property
    def isIdle(self) -> bool:
        """
        No worker has a turn running or waiting.
        """
        return all(worker.isIdle for worker in self.workers)

    # Start and stop.

    def startService(self) -> None:
        """
        Start the daemon and one worker with all models; listen.
        """
        super().startService()
        if self._directory is not None:
            self._folder = makeFolder(self._directory)
        self._comeUp()
        self.addWorker(*self.settings.models)

    def stopService(self) -> Deferred[None]:
        """
        Stop everything and remove what was made.

        @return: fires when the socket is closed and the folder gone.
        """
        super().stopService()
        self.killWorkers()
        return self.crash().addCallback(lambda _: self._removeFolder())

    def start(self) -> None:
        """
        See L{startService}.
        """
        self.startService()

    def stop(self) -> Deferred[None]:
        """
        See L{stopService}.
        """
        return self.stopService()

    def buildProtocol(self, addr: IAddress | None = None) -> Client | None:
        """
        A new connection, or None while the daemon is down.
        """
        if self.hall is None:
            return None
        self._connections += 1
        return Client(self.hall, self._connections)

    # Faults.

    def crash(self) -> Deferred[None]:
        """
        The daemon dies: connections are cut, every turn is forgotten; the
        workers run on.

        @return: fires when nothing listens any more.
        """
        hall, self.hall = self.hall, None
        if hall is not None:
            hall.close()
        if self._returning is not None and self._returning.active():
            self._returning.cancel()
        port, self._port = self._port, None
        return succeed(None) if port is None else _closed(port)

    def comeBack(self) -> None:
        """
        The daemon is started again. Its workers are back a little later.
        """
        self._comeUp()
        self._returning = self.clock.callLater(self.settings.workerReturn, self._workersReturn)

    def restart(self) -> Deferred[None]:
        """
        L{crash}, then L{comeBack}.

        @return: fires when it listens again.
        """
        return self.crash().addCallback(lambda _: self.comeBack())

    def cutConnections(self) -> None:
        """
        Cut all connections, and go on.
        """
        if self.hall is not None:
            self.hall.cutConnections()

    def addWorker(self, *models: str) -> Worker:
        """
        A worker with these models connects, all of them among the settings'.
        """
        self._workersMade += 1
        name = f"worker-{self._workersMade}"
        worker = Worker(name, models, self.settings, self.clock, int(self.now() * 1000))
        self.workers.append(worker)
        if self.hall is not None:
            self.hall.addWorker(worker)
        return worker

    def killWorker(self, worker: Worker) -> None:
        """
        A worker dies with all its processes. Its manifest disappears; nobody
        is told.
        """
        worker.stop()
        self.workers.remove(worker)
        if self.hall is not None:
            self.hall.removeWorker(worker)

    def killWorkers(self) -> None:
        """
        All workers die.
        """
        for worker in list(self.workers):
            self.killWorker(worker)

    # Inside.

    def _comeUp(self) -> None:
        self.incarnation += 1
        registry = None if self.registryPath is None else RegistryFile(self.registryPath)
        self.hall = Hall(self, registry)
        if self._reactor is not None and self.socketPath is not None:
            path = str(self.socketPath)
            self._port = self._reactor.listenUNIX(path, _Doors(self), mode=stat.S_IRUSR | stat.S_IWUSR)

    def _removeFolder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _workersReturn(self) -> None:
        if self.hall is not None:
            for worker in self.workers:
                self.hall.addWorker(worker)


def _closed(port: IListeningPort) -> Deferred[None]:
    """
    Fires when nothing listens on the port any more. The file of its socket,
    which it removes, may be gone with its folder.
    """

    def vanished(failure: Failure) -> None:
        failure.trap(FileNotFoundError)

    return succeed(None).addCallback(lambda _: port.stopListening()).addErrback(vanished)


class _Doors(Factory):
    """
    What listens: the daemon itself is a service, not a factory.
    """

    noisy = False

    def __init__(self, daemon: EmbeddedDaemon) -> None:
        self._daemon = daemon

    def buildProtocol(self, addr: IAddress | None) -> Client | None:
        """
        See L{EmbeddedDaemon.buildProtocol}.
        """
        return self._daemon.buildProtocol(addr)

# -*- test-case-name: tests.test_processes -*-
"""
The processes that serve, and the one that starts them.

That one opens the ports and accepts nothing. Each I{worker} is a whole server
in a process of its own, which inherits the ports and accepts from them. One
that dies is replaced. All that workers log is written by the process that
started them, so that one alone writes the file and puts it aside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from openai_server.config import ConfigurationError, Loaded
from openai_server.greeting import Bound
from openai_server.inheritance import Inheritance
from openai_server.service import Front, StartError
from openai_server.spawning import Port, RunningWorker, Spawner
from openai_server.supervision import Supervisor

#: Seconds until a worker that died is replaced: doubled each time, and as at
#: first again once one has lived for so long.
FIRST_DELAY: Final = 0.5
LAST_DELAY: Final = 30.0
SOUND: Final = 60.0

#: Seconds that workers have beyond their own drain, and then once more.
OWN_DRAIN: Final = 5.0
OWN_CUT: Final = 3.0


def checkProcesses(loaded: Loaded) -> None:
    """
    @raise ConfigurationError: there cannot be so many processes, since they
        could not know of one another.
    """
    configuration = loaded.configuration
    if configuration.processes == 1:
        return
    where = f"{loaded.sources['processes']}: processes {configuration.processes}"
    if configuration.embedded:
        raise ConfigurationError(f"{where}: the embedded daemon serves one process")
    if configuration.metrics is not None and configuration.metricsDescription(2) is None:
        raise ConfigurationError(
            f"{where}: each has its own metrics, and there is no second port like"
            f" {configuration.metrics} (tcp:PORT, ssl:PORT, unix:PATH)"
        )
    if not configuration.store.startswith("postgresql"):
        raise ConfigurationError(
            f"{where}: several processes need a store in PostgreSQL"
            " (--store postgresql+psycopg://USER@HOST/DATABASE)"
        )


class Worker:
    """
    One of the processes that serve: the running one, or the next one.
    """

    _log = Logger()

    def __init__(self, processes: Processes, number: int) -> None:
        """
        @param number: counted from 1.
        """
        self._processes = processes
        self._number = number
        self._clock = processes.clock
        self._running: RunningWorker | None = None
        self._startedAt = 0.0
        self._delay = FIRST_DELAY
        self._next: IDelayedCall | None = None

    @property
    def isAlive(self) -> bool:
        """
        Whether there is a process.
        """
        return self._running is not None

    def start(self) -> None:
        """
        Start a process.
        """
        self._next = None
        if self._processes.isStopping:
            return
        self._startedAt = self._clock.seconds()
        try:
            self._running = self._processes.spawn(self._number, self._ended)
        except OSError as error:
            self._ended(f"it cannot be started: {error.strerror}")
        else:
            self._log.info("process {number} has the PID {pid}", number=self._number, pid=self._running.pid)

    def stop(self) -> None:
        """
        Let the process drain, and start no other one.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self.signal("TERM")

    def signal(self, name: str) -> None:
        """
        Send the process a signal, if there is one.
        """
        if self._running is not None:
            self._running.signal(name)

    def _ended(self, reason: str) -> None:
        self._running = None
        if self._processes.isStopping:
            self._processes.oneHasEnded()
        elif self._processes.haveServed:
            self._replace(reason)
        else:
            self._log.critical(
                "process {number} ended before it served: {reason}", number=self._number, reason=reason
            )
            self._processes.giveUp()

    def _replace(self, reason: str) -> None:
        if self._clock.seconds() - self._startedAt >= SOUND:
            self._delay = FIRST_DELAY
        self._log.error(
            "process {number} ended: {reason}; another one starts in {delay} s",
            number=self._number,
            reason=reason,
            delay=self._delay,
        )
        self._next = self._clock.callLater(self._delay, self.start)
        self._delay = min(self._delay * 2, LAST_DELAY)


class Processes:
    """
    See L{openai_server.service.Front}: in place of the HTTP side, the
    processes that have one each.

    @ivar clock: for waits.
    @ivar isStopping: whether none is started any more.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        count: int,
        spawner: Spawner,
        supervisor: Supervisor,
        fail: Callable[[], object],
    ) -> None:
        """
        @param supervisor: is told once all processes serve.
        @param fail: ends this process, since its start has failed.
        """
        self.clock = clock
        self.isStopping = False
        self._reactor = reactor
        self._spawner = spawner
        self._supervisor = supervisor
        self._served: set[int] = set()
        self._fail = fail
        self._workers = [Worker(self, number) for number in range(1, count + 1)]
        self._descriptions: Sequence[str] = ()
        self._ports: Sequence[Port] = ()
        self._idle: list[Deferred[None]] = []

    @property
    def haveServed(self) -> bool:
        """
        Whether one of them has ever served.
        """
        return bool(self._served)

    def compose(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> Front:
        """
        See L{openai_server.service.Compose}.
        """
        self._descriptions = [address.description for address in bound]
        return self

    # What the service above does with a front.

    def buildProtocol(self, addr: Any) -> None:
        """
        Nobody is let in here.
        """

    def portsOpened(self, ports: Sequence[Any]) -> None:
        """
        Start the processes, which accept from these ports.

        @raise StartError: a port is none of the system's.
        """
        for port, description in zip(ports, self._descriptions, strict=True):
            if not hasattr(port, "fileno"):
                raise StartError(f"cannot listen on {description}: several processes cannot share it")
            port.pauseProducing()
        self._ports = ports
        for worker in self._workers:
            # Before the reactor runs nobody would hear of their ends.
            self._reactor.callWhenRunning(worker.start)

    def handOver(self) -> Deferred[None]:
        """
        The processes do that.
        """
        return succeed(None)

    def stopAccepting(self) -> None:
        """
        Let all processes drain.
        """
        self.isStopping = True
        self._supervisor.stopping()
        for worker in self._workers:
            worker.stop()

    def whenIdle(self) -> Deferred[None]:
        """
        Fires once all processes are gone.
        """
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self.oneHasEnded()
        return idle

    def cut(self) -> None:
        """
        Let all processes end now.
        """
        self._signal("TERM")

    def closeIdle(self) -> Deferred[None]:
        """
        Kill those that are left.
        """
        self._signal("KILL")
        return self.whenIdle()

    # What it does for its processes.

    def hangUp(self) -> None:
        """
        Let all processes read their settings again.
        """
        self._signal("HUP")

    def spawn(self, number: int, ended: Callable[[str], None]) -> RunningWorker:
        """
        Start a process.

        @param ended: is called with the reason when it is gone.
        @raise OSError: the system starts none.
        """
        inheritance = Inheritance(number, tuple(self._descriptions))
        return self._spawner.spawn(inheritance, self._ports, partial(self._serves, number), ended)

    def oneHasEnded(self) -> None:
        """
        Tell those who wait, if none is left.
        """
        if not any(worker.isAlive for worker in self._workers):
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)

    def giveUp(self) -> None:
        """
        What keeps one from serving keeps all.
        """
        self.isStopping = True
        self._fail()

    def _serves(self, number: int) -> None:
        if number not in self._served:
            self._served.add(number)
            if len(self._served) == len(self._workers):
                self._supervisor.ready()

    def _signal(self, name: str) -> None:
        for worker in self._workers:
            worker.signal(name)

# -*- test-case-name: tests.test_program -*-
"""
What the server does to its process, when the process is its own: the log, the
signals, the memory and the last words. Beside other services of somebody
else's application it does none of this.
"""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from openai_server.service import OpenAIService, StartError
from openai_server.supervision import Supervisor


class ProgramService(OpenAIService):
    """
    The server as the one thing that a C{twistd} process does.
    """

    #: Writes the process's log, unless the operator chose a logger.
    observer: ILogObserver | None = None

    #: Opens the files anew that the log is written to, at a SIGHUP.
    reopens: Sequence[Callable[[], object]] = ()

    #: What is read anew then.
    reloads: Sequence[Callable[[], object]] = ()

    #: Is told how the process is.
    supervisor: Supervisor | None = None

    def setServiceParent(self, parent: Any) -> None:
        """
        Become a service of the application, and its log's observer: this is
        where C{twistd} looks for one, and it has not started to log yet.
        """
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        raiseFileLimit()
        signals = Signals(self._reactor, self.endNow, self.reload)
        signals.install()
        super().startService()
        # The reactor sets its own handlers when it begins to run.
        self._reactor.callWhenRunning(signals.install)
        self._reactor.callWhenRunning(calmGarbageCollection)
        if self.supervisor is not None:
            self._reactor.callWhenRunning(self.supervisor.ready)

    def stopService(self) -> Deferred[None]:
        """
        Stop in good order, and say so.
        """
        if self.supervisor is not None:
            self.supervisor.stopping()
        return super().stopService()

    def reload(self) -> None:
        """
        Read anew what can be.
        """
        for reopen in self.reopens:
            reopen()
        self._log.info("SIGHUP: the log's file was opened again, and the settings are read")
        for reload in self.reloads:
            reload()


def pidFileProblem(twistd: Mapping[str, Any]) -> str | None:
    """
    Return why C{twistd} cannot write its PID file, which it would say with a
    traceback; None when it can, or is to write none.

    @param twistd: its own options.
    """
    if not twistd.get("pidfile"):
        return None
    path = os.path.abspath(os.path.join(twistd.get("rundir") or "", twistd["pidfile"]))
    if os.access(path if os.path.exists(path) else os.path.dirname(path), os.W_OK):
        return None
    return (
        f"cannot write the PID file {path}: start it in another folder, or without that file:"
        " twistd --pidfile= -n openai-server"
    )


class Signals:
    """
    What signals do. The first SIGTERM or SIGINT stops the reactor, which
    drains; the second ends the drain: the reactor's own way to take a second
    one is a traceback. SIGHUP reloads. SIGUSR1 and SIGUSR2 are ignored, since
    without any handler they would end the process.
    """

    _log = Logger()

    def __init__(self, reactor: Any, endNow: Callable[[], None], reload: Callable[[], None]) -> None:
        self._reactor = reactor
        self._endNow = endNow
        self._reload = reload
        self._isStopping = False

    def install(self) -> None:
        """
        Take the place of the reactor's handlers, or of Python's before the
        reactor runs; those that somebody else has set stay.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._replace(number, self.received)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            self._replace(number, signal.SIG_IGN)

    def _replace(self, number: int, handler: Any) -> None:
        current = signal.getsignal(number)
        isReactors = getattr(current, "__self__", None) is self._reactor
        if isReactors or current in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, handler)

    def received(self, number: int, frame: FrameType | None = None) -> None:
        """
        A signal came, at any place of the program: only note it.
        """
        if number == signal.SIGHUP:
            self._reactor.callFromThread(self._reload)
        else:
            self._reactor.callFromThread(self._obey, signal.Signals(number).name)

    def _obey(self, name: str) -> None:
        if self._isStopping:
            self._log.info("{name} again: ending now", name=name)
            self._endNow()
            return
        self._isStopping = True
        self._log.info("{name}: no new requests, open answers may end", name=name)
        with suppress(ReactorNotRunning):
            self._reactor.stop()


def raiseFileLimit() -> None:
    """
    Let the process open as many files as the system lets it: by default that is
    a thousand, and a connection is a file.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A system may say that there is no limit, and not mean it.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))


def calmGarbageCollection() -> None:
    """
    What the start has made stays for good: never look at it again, and look at
    everything seldom, since a full collection stops all streams.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def keepForGood() -> None:
    """
    What is there now stays for long: collections never look at it again. What
    is garbage at this moment and refers to itself stays too.
    """
    gc.freeze()


def endInFailure(reactor: Any) -> None:
    """
    Stop the reactor, and let the process end with status 1, for which C{twistd}
    has no way once its reactor runs.
    """
    # The last of all: the log is written then, and the PID file is gone.
    atexit.register(os._exit, 1)
    reactor.stop()


def explainExit(next: Callable[..., object] = sys.__excepthook__) -> Callable[..., None]:
    """
    A C{sys.excepthook} for which L{StartError} is one line in the log and not a
    traceback: C{twistd} lets it end the program, as it should.

    @param next: the hook for everything else.
    """
    log = Logger()

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, StartError):
            log.critical("{reason}", reason=str(error))
        else:
            next(kind, error, trace)

    return hook

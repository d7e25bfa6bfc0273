"""
Tests for L{openai_server.program}.
"""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Application, IService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher

from openai_server import program
from openai_server.program import (
    ProgramService,
    Signals,
    calmGarbageCollection,
    endInFailure,
    explainExit,
    keepForGood,
    raiseFileLimit,
)
from openai_server.service import StartError
from tests.support import SyncCase, TestClock

ALL_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class FakeFront:
    """
    Takes its ports.
    """

    def portsOpened(self, ports: Any) -> None:
        """
        Nothing to note.
        """


class FakeReactor:
    """
    A reactor as far as signals are concerned: it counts its stops, and will
    not be stopped twice.
    """

    def __init__(self) -> None:
        self.stops = 0
        self.queued: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def callFromThread(self, function: Callable[..., None], *args: Any) -> None:
        self.queued.append((function, args))

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning("stopped twice")

    def turn(self) -> None:
        """
        Do what was queued.
        """
        queued, self.queued = self.queued, []
        for function, args in queued:
            function(*args)

    def sigTerm(self, number: int, frame: object = None) -> None:
        raise AssertionError("the reactor's own way")

    sigInt = sigTerm


class SignalsTests(SyncCase):
    """
    (P4) The first signal drains, the second ends.
    """

    def setUp(self) -> None:
        super().setUp()
        self.reactor = FakeReactor()
        self.ends: list[str] = []
        self.reloads: list[str] = []
        self.signals = Signals(
            self.reactor, lambda: self.ends.append("now"), lambda: self.reloads.append("now")
        )
        for number in ALL_SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def test_firstStopsTheReactor(self) -> None:
        """
        Once the reactor comes round, not in the middle of whatever runs.
        """
        self.signals.received(signal.SIGTERM)
        self.assertEqual(self.reactor.stops, 0)
        self.reactor.turn()
        self.assertEqual((self.reactor.stops, self.ends), (1, []))

    def test_secondEndsAtOnce(self) -> None:
        """
        Of either kind, and again and again; the reactor is stopped once.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            self.signals.received(number)
            self.reactor.turn()
        self.assertEqual((self.reactor.stops, self.ends), (1, ["now", "now"]))

    def test_bothInOneTurn(self) -> None:
        """
        Two signals before the reactor looks are a first and a second.
        """
        self.signals.received(signal.SIGTERM)
        self.signals.received(signal.SIGTERM)
        self.reactor.turn()
        self.assertEqual((self.reactor.stops, self.ends), (1, ["now"]))

    def test_hangupReloads(self) -> None:
        """
        P22: once the reactor comes round, again and again, and nothing stops.
        """
        for _ in range(2):
            self.signals.received(signal.SIGHUP)
        self.assertEqual(self.reloads, [])
        self.reactor.turn()
        self.assertEqual((self.reloads, self.reactor.stops), (["now", "now"], 0))

    def test_endInFailure(self) -> None:
        """
        The reactor stops, and the last thing of all is to end with status 1.
        """
        last: list[tuple[Any, ...]] = []
        self.patch(atexit, "register", lambda *terms: last.append(terms))
        endInFailure(self.reactor)
        self.assertEqual((self.reactor.stops, last), (1, [(os._exit, 1)]))

    def test_othersAreIgnored(self) -> None:
        """
        P22: SIGUSR1 and SIGUSR2 would kill; a handler that somebody has set
        for one stays.
        """
        own = lambda number, frame: None  # noqa: E731
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, own)
        self.signals.install()
        self.assertEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_IGN)
        self.assertIs(signal.getsignal(signal.SIGUSR2), own)

    def test_reactorThatHasStopped(self) -> None:
        """
        Somebody else stopped it: no traceback.
        """
        self.reactor.stops = 1
        self.signals.received(signal.SIGTERM)
        self.reactor.turn()
        self.assertEqual(self.ends, [])

    def test_reactorsHandlersAreReplaced(self) -> None:
        """
        Those that the reactor has set for itself.
        """
        signal.signal(signal.SIGTERM, self.reactor.sigTerm)
        signal.signal(signal.SIGINT, self.reactor.sigInt)
        self.signals.install()
        self.assertEqual(signal.getsignal(signal.SIGTERM), self.signals.received)
        self.assertEqual(signal.getsignal(signal.SIGINT), self.signals.received)

    def test_pythonsHandlersAreReplaced(self) -> None:
        """
        A signal that comes before the reactor runs is obeyed when it does.
        """
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.signals.install()
        self.assertEqual(signal.getsignal(signal.SIGTERM), self.signals.received)
        self.assertEqual(signal.getsignal(signal.SIGINT), self.signals.received)

    def test_othersHandlersStay(self) -> None:
        """
        A debugger's, or an application's own.
        """
        own = lambda number, frame: None  # noqa: E731
        signal.signal(signal.SIGTERM, own)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.signals.install()
        self.assertIs(signal.getsignal(signal.SIGTERM), own)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)


class ProgramServiceTests(SyncCase):
    """
    The service as the one thing that a process does.
    """

    def service(self) -> ProgramService:
        """
        One that opens nothing.
        """
        return ProgramService(None, TestClock(), [], 30, lambda bound, start: None)  # type: ignore[arg-type, return-value]

    def test_signalsAreTakenBeforeAnythingStarts(self) -> None:
        """
        One that comes during the start, or before the reactor runs, is a
        shutdown in good order; and the reactor, which sets its own handlers
        when it begins to run, does not keep them.
        """
        for number in ALL_SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, signal.SIG_DFL)
        seen: list[Any] = []
        whenRunning: list[Callable[[], None]] = []
        reactor = FakeReactor()
        reactor.callWhenRunning = whenRunning.append  # type: ignore[attr-defined]

        def compose(bound: Any, start: Any) -> Any:
            seen.append(signal.getsignal(signal.SIGTERM))
            return FakeFront()

        service = ProgramService(reactor, TestClock(), [], 30, compose)
        service.startService()
        self.assertEqual(seen[0].__name__, "received")
        signal.signal(signal.SIGTERM, reactor.sigTerm)
        whenRunning[0]()
        self.assertEqual(signal.getsignal(signal.SIGTERM), seen[0])
        self.assertEqual(whenRunning[1:], [calmGarbageCollection])

    def test_observerOfTheApplication(self) -> None:
        """
        C{twistd} finds our observer at the application, before it logs.
        """
        application = Application("openai-server")
        service = self.service()
        service.observer = lambda event: None
        service.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), service.observer)
        self.assertIs(service.parent, IService(application))

    def test_noObserver(self) -> None:
        """
        Then C{twistd} logs in its own way.
        """
        application = Application("openai-server")
        self.service().setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))


class LastWordsTests(SyncCase):
    """
    A start that fails says why in one line.
    """

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Any] = []
        self.passedOn: list[Any] = []
        self.hook = explainExit(lambda *args: self.passedOn.append(args))
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_startError(self) -> None:
        """
        It goes to the log, without a traceback.
        """
        self.hook(StartError, StartError("cannot {listen}"), None)
        (event,) = self.events
        self.assertEqual((event["log_level"], event["reason"]), (LogLevel.critical, "cannot {listen}"))
        self.assertNotIn("log_failure", event)
        self.assertEqual(self.passedOn, [])

    def test_anythingElse(self) -> None:
        """
        A bug is shown as always.
        """
        error = ValueError()
        self.hook(ValueError, error, None)
        self.assertEqual((self.events, self.passedOn), ([], [(ValueError, error, None)]))


class FileLimitTests(SyncCase):
    """
    P23: how many files may be open.
    """

    def setUp(self) -> None:
        super().setUp()
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.limits)

    def test_raised(self) -> None:
        """
        As many as the system allows, before anything looks at it.
        """
        for number in ALL_SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, self.limits[1]))
        reactor = FakeReactor()
        reactor.callWhenRunning = lambda call: None  # type: ignore[attr-defined]
        seen: list[tuple[int, int]] = []

        def compose(bound: Any, start: Any) -> Any:
            seen.append(resource.getrlimit(resource.RLIMIT_NOFILE))
            return FakeFront()

        ProgramService(reactor, TestClock(), [], 30, compose).startService()
        self.assertEqual(seen, [(self.limits[1], self.limits[1])])

    def test_refused(self) -> None:
        """
        Then it stays.
        """

        def refuse(*args: object) -> None:
            raise ValueError("not allowed to raise maximum limit")

        self.patch(program.resource, "setrlimit", refuse)
        raiseFileLimit()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), self.limits)


class GarbageTests(SyncCase):
    """
    Full collections are rare.
    """

    def test_frozenAndRare(self) -> None:
        """
        What exists at the start is out of the collector's sight.
        """
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        calmGarbageCollection()
        # What other tests have left unclosed is collected here, and is not of this test's making.
        self.flushWarnings()
        self.assertGreater(gc.get_freeze_count(), 1000)
        self.assertGreater(gc.get_threshold()[0], 700)

    def test_keptForGood(self) -> None:
        """
        What is brought back behind the start is out of its sight too.
        """
        self.addCleanup(gc.unfreeze)
        kept: list[object] = []
        self.assertTrue(any(each is kept for each in gc.get_objects()))
        keepForGood()
        self.assertFalse(any(each is kept for each in gc.get_objects()))

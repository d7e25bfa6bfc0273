"""
Tests for L{openai_server.processes} and L{openai_server.spawning}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from openai_server.greeting import Bound
from openai_server.inheritance import FIRST_PORT, LIFELINE, READY, inheritanceFrom
from openai_server.processes import FIRST_DELAY, LAST_DELAY, OWN_CUT, SOUND, Processes
from openai_server.service import Front, OpenAIService, StartError
from openai_server.spawning import Command, RunningWorker, Spawner, commandFor
from openai_server.supervision import Supervisor
from tests.support import SyncCase, TestClock

DESCRIPTION = "tcp:0:interface=127.0.0.1"


class FakeProcess:
    """
    A process as its transport shows it.

    @ivar signals: those that it got.
    """

    def __init__(
        self,
        pid: int,
        protocol: RunningWorker,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        childFDs: Any,
    ) -> None:
        self.pid = pid
        self.protocol = protocol
        self.arguments = arguments
        self.environ = environ
        self.childFDs = childFDs
        self.signals: list[str] = []
        self.isGone = False
        protocol.transport = self  # type: ignore[assignment]

    def signalProcess(self, name: str) -> None:
        if self.isGone:
            raise ProcessExitedAlready
        self.signals.append(name)

    def says(self, data: bytes, descriptor: int = 1) -> None:
        """
        It writes.
        """
        self.protocol.childDataReceived(descriptor, data)

    def serves(self) -> None:
        """
        It says so.
        """
        self.says(b".", READY)

    def ends(self, code: int | None = 0, signal: int | None = None) -> None:
        """
        It is gone.
        """
        self.isGone = True
        error = ProcessTerminated(code, signal) if code or signal else ProcessDone(None)
        self.protocol.processEnded(Failure(error))


class FakePort:
    """
    A port of the system's.
    """

    def __init__(self) -> None:
        self.isPaused = False

    def fileno(self) -> int:
        return 42

    def pauseProducing(self) -> None:
        self.isPaused = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 80)

    def stopListening(self) -> None: ...


class FakeReactor:
    """
    Starts processes that are none.

    @ivar processes: all so far.
    @ivar refusal: why it starts none.
    """

    def __init__(self) -> None:
        self.processes: list[FakeProcess] = []
        self.refusal: OSError | None = None

    def callWhenRunning(self, function: Callable[[], None]) -> None:
        function()

    def listenTCP(self, *args: Any, **kwargs: Any) -> FakePort:
        return FakePort()

    def spawnProcess(
        self,
        protocol: RunningWorker,
        executable: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        folder: str,
        childFDs: Any,
    ) -> FakeProcess:
        if self.refusal is not None:
            raise self.refusal
        process = FakeProcess(len(self.processes) + 1, protocol, arguments, environ, childFDs)
        self.processes.append(process)
        return process


class RecordedSupervisor(Supervisor):
    """
    Notes what systemd would be told.
    """

    def __init__(self, told: list[str], clock: TestClock) -> None:
        super().__init__(None, None, clock)
        self._told = told

    def ready(self) -> None:
        self._told.append("ready")

    def stopping(self) -> None:
        self._told.append("stopping")


class ProcessesCase(SyncCase):
    """
    Two processes.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.reactor = FakeReactor()
        self.failures: list[str] = []
        self.lines: list[bytes] = []
        spawner = Spawner(self.reactor, Command(["run"], {"A": "b"}, "/"), self.lines.append)
        self.told: list[str] = []
        self.processes = Processes(
            self.reactor,
            self.clock,
            2,
            spawner,
            RecordedSupervisor(self.told, self.clock),
            lambda: self.failures.append("failed"),
        )
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def log(self, event: LogEvent) -> None:
        """
        Note a line of the log.
        """
        if str(event.get("log_namespace")).startswith("openai_server.processes"):
            self.logged.append(formatEvent(event))

    @property
    def running(self) -> list[FakeProcess]:
        """
        Those that are not gone.
        """
        return [process for process in self.reactor.processes if not process.isGone]

    def start(self) -> None:
        """
        Start them on one port.
        """
        self.port = FakePort()
        self.processes.compose([Bound(DESCRIPTION, self.port.getHost())], lambda service: None)
        self.processes.portsOpened([self.port])

    def serve(self) -> None:
        """
        Start them, and let them serve.
        """
        self.start()
        for process in self.running:
            process.serves()


class StartTests(ProcessesCase):
    """
    How processes start.
    """

    def test_start(self) -> None:
        """
        Each has the port, two pipes and what it has to know; this one accepts
        nothing.
        """
        self.start()
        self.assertTrue(self.port.isPaused)
        one, two = self.running
        self.assertEqual(one.childFDs, {0: 0, 1: "r", 2: 2, LIFELINE: "w", READY: "r", FIRST_PORT: 42})
        self.assertEqual((one.arguments, one.environ["A"]), (["run"], "b"))
        for number, process in ((1, one), (2, two)):
            inheritance = inheritanceFrom(process.environ)
            assert inheritance is not None
            self.assertEqual((inheritance.number, inheritance.descriptions), (number, (DESCRIPTION,)))

    def test_ready(self) -> None:
        """
        Systemd is told once all of them serve, and once only.
        """
        self.start()
        one, two = self.running
        one.serves()
        one.ends(1)
        self.clock.advance(FIRST_DELAY)
        self.running[-1].serves()
        self.assertEqual(self.told, [])
        two.serves()
        self.assertEqual(self.told, ["ready"])
        two.ends(1)
        self.clock.advance(FIRST_DELAY)
        self.running[-1].serves()
        self.assertEqual(self.told, ["ready"])

    def test_portOfNobodys(self) -> None:
        """
        What is no socket of this system's cannot be inherited.
        """
        self.processes.compose([Bound("onion:80", FakePort().getHost())], lambda service: None)
        error = self.assertRaises(StartError, self.processes.portsOpened, [object()])
        self.assertEqual(str(error), "cannot listen on onion:80: several processes cannot share it")
        self.assertEqual(self.running, [])

    def test_startThatFails(self) -> None:
        """
        (P40) Before any of them has served, the end of one is everybody's: the
        same would come again and again.
        """
        self.start()
        self.running[0].ends(1)
        self.assertEqual(self.failures, ["failed"])
        self.assertEqual(
            self.logged,
            [
                "process 1 has the PID 1",
                "process 2 has the PID 2",
                "process 1 ended before it served: exit code 1",
            ],
        )
        self.running[0].ends(1)
        self.clock.advance(1000)
        self.assertEqual((self.failures, self.running), (["failed"], []))

    def test_systemStartsNone(self) -> None:
        """
        The same.
        """
        self.reactor.refusal = OSError(11, "Resource temporarily unavailable")
        self.start()
        self.assertEqual(self.failures, ["failed"])
        self.assertIn("it cannot be started: Resource temporarily unavailable", self.logged[0])

    def test_command(self) -> None:
        """
        What C{twistd} was told of the process holds for each, but it is no
        daemon, has no PID file, and writes its log here.
        """
        twistd = {"rundir": "/run", "prefix": "p", "logfile": "x.log", "pidfile": "y", "syslog": True}
        environ = {"A": "b", "NOTIFY_SOCKET": "x", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "2"}
        command = commandFor(["--port", "1"], twistd, environ)
        self.assertEqual(command.arguments[0], sys.executable)
        own = ("--nodaemon", "--pidfile=", "--prefix=p", "--rundir=/run", "--syslog")
        self.assertEqual(command.arguments[4:], (*own, "openai-server", "--port", "1"))
        self.assertEqual((command.environ, command.folder), ({"A": "b"}, os.getcwd()))
        self.assertNotIn("--syslog", commandFor([], {}, {}).arguments)


class LogTests(ProcessesCase):
    """
    What processes log.
    """

    def test_linesAreWhole(self) -> None:
        """
        However they come; each says whose it is.
        """
        self.start()
        one, two = self.running
        one.says(b'{"a":1}\n{"a')
        two.says(b'{"b":1}\n')
        self.assertEqual(self.lines, [b'{"process":1,"a":1}\n', b'{"process":2,"b":1}\n'])
        one.says(b'":2}\n{"a":3}\n')
        self.assertEqual(self.lines[2:], [b'{"process":1,"a":2}\n{"process":1,"a":3}\n'])
        self.assertEqual(json.loads(self.lines[0]), {"process": 1, "a": 1})

    def test_otherLines(self) -> None:
        """
        Pass as they are.
        """
        self.start()
        self.running[0].says(b"Traceback\n\n{}\n")
        self.assertEqual(self.lines, [b"Traceback\n\n{}\n"])

    def test_lastLine(self) -> None:
        """
        That of a process which died over it is one too.
        """
        self.serve()
        self.running[0].says(b"half")
        self.running[0].ends(None, 9)
        self.assertEqual(self.lines, [b"half\n"])

    def test_bound(self) -> None:
        """
        A line without an end is not kept for ever.
        """
        self.start()
        for _ in range(40):
            self.running[0].says(b"x" * 65536)
        self.assertGreaterEqual(len(self.lines), 2)
        self.assertTrue(all(line.endswith(b"x\n") for line in self.lines))


class ReplacementTests(ProcessesCase):
    """
    (P41) A process that dies is replaced.
    """

    def test_replaced(self) -> None:
        """
        After a moment, under its number, with a line that says why.
        """
        self.serve()
        self.running[1].ends(None, 9)
        self.assertEqual(
            self.logged[2:],
            [f"process 2 ended: SIGKILL; another one starts in {FIRST_DELAY} s"],
        )
        self.clock.advance(FIRST_DELAY - 0.01)
        self.assertEqual(len(self.running), 1)
        self.clock.advance(0.01)
        inheritance = inheritanceFrom(self.running[1].environ)
        assert inheritance is not None
        self.assertEqual(inheritance.number, 2)
        self.assertEqual(self.failures, [])

    def test_endingWellIsAnEndToo(self) -> None:
        """
        Somebody has told it to.
        """
        self.serve()
        self.running[0].ends(0)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(len(self.running), 2)

    def test_delayGrows(self) -> None:
        """
        Up to a bound, and each process has its own.
        """
        self.serve()
        delays = []
        for _ in range(9):
            self.running[-1].ends(1)
            (call,) = self.clock.getDelayedCalls()
            delays.append(call.getTime() - self.clock.seconds())
            self.clock.advance(delays[-1])
        self.assertEqual(delays[:4], [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4, FIRST_DELAY * 8])
        self.assertEqual(delays[-2:], [LAST_DELAY, LAST_DELAY])
        self.running[0].ends(1)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(len(self.running), 2)

    def test_delayStartsOver(self) -> None:
        """
        Once a process has lived for a while.
        """
        self.serve()
        for life, delay in ((0.0, FIRST_DELAY), (SOUND - 0.01, FIRST_DELAY * 2), (SOUND, FIRST_DELAY)):
            self.clock.advance(life)
            self.running[-1].ends(1)
            (call,) = self.clock.getDelayedCalls()
            self.assertAlmostEqual(call.getTime() - self.clock.seconds(), delay)
            self.clock.advance(delay)

    def test_systemStartsNone(self) -> None:
        """
        It is tried again.
        """
        self.serve()
        self.reactor.refusal = OSError(12, "Cannot allocate memory")
        self.running[0].ends(1)
        self.clock.advance(FIRST_DELAY)
        self.assertIn("process 1 ended: it cannot be started: Cannot allocate memory", self.logged[-1])
        self.reactor.refusal = None
        self.clock.advance(FIRST_DELAY * 2)
        self.assertEqual(len(self.running), 2)


class StopTests(ProcessesCase):
    """
    (P42) All processes drain when the first one is told to end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.service = OpenAIService(self.reactor, self.clock, [DESCRIPTION], 30, self.compose)
        self.service.cutTimeout = self.service.hurriedTimeout = OWN_CUT
        self.service.privilegedStartService()
        self.service.startService()
        for process in self.running:
            process.serves()

    def compose(self, bound: Sequence[Bound], start: Any) -> Front:
        """
        Join.
        """
        return self.processes.compose(bound, start)

    def signals(self) -> list[list[str]]:
        """
        What each process got.
        """
        return [process.signals for process in self.reactor.processes]

    def stop(self) -> Deferred[None]:
        """
        As after SIGTERM.
        """
        return self.service.stopService()

    def test_drain(self) -> None:
        """
        The end comes when the last one is gone, and nobody is replaced.
        """
        stopped = self.stop()
        self.assertEqual((self.signals(), self.told), ([["TERM"], ["TERM"]], ["ready", "stopping"]))
        one, two = self.running
        one.ends()
        self.clock.advance(29)
        self.assertNoResult(stopped)
        two.ends()
        self.successResultOf(stopped)
        self.assertEqual((self.clock.getDelayedCalls(), len(self.logged)), ([], 2))

    def test_oneWaitsToBeReplaced(self) -> None:
        """
        It is not.
        """
        self.running[0].ends(1)
        stopped = self.stop()
        self.running[0].ends()
        self.successResultOf(stopped)
        self.assertEqual((self.clock.getDelayedCalls(), self.running), ([], []))

    def test_drainTimeIsOver(self) -> None:
        """
        Those that are left are told to end at once, and in the end killed.
        """
        stopped = self.stop()
        self.running[0].ends()
        self.clock.advance(30)
        self.assertEqual(self.signals()[1], ["TERM", "TERM"])
        self.clock.advance(OWN_CUT)
        self.assertEqual(self.signals(), [["TERM"], ["TERM", "TERM", "KILL"]])
        self.assertNoResult(stopped)
        self.running[0].ends(None, 9)
        self.successResultOf(stopped)

    def test_secondSignal(self) -> None:
        """
        Is passed on, and leaves them the time to say good-bye.
        """
        stopped = self.stop()
        self.service.endNow()
        self.assertEqual(self.signals(), [["TERM", "TERM"], ["TERM", "TERM"]])
        self.clock.advance(OWN_CUT - 0.1)
        for process in self.running:
            process.ends()
        self.successResultOf(stopped)
        self.assertEqual(self.signals(), [["TERM", "TERM"], ["TERM", "TERM"]])

    def test_whatCannotBeKilled(self) -> None:
        """
        Is not waited for.
        """
        stopped = self.stop()
        self.service.endNow()
        self.clock.advance(OWN_CUT)
        self.assertEqual(self.signals()[0], ["TERM", "TERM", "KILL"])
        self.clock.advance(OWN_CUT)
        self.successResultOf(stopped)

    def test_goneBeforeItIsKnown(self) -> None:
        """
        A signal for a process whose end has not been told is lost.
        """
        one, _ = self.running
        one.isGone = True
        self.stop()
        self.assertEqual(one.signals, [])

    def test_hangUp(self) -> None:
        """
        SIGHUP is for all.
        """
        self.processes.hangUp()
        self.assertEqual(self.signals(), [["HUP"], ["HUP"]])

    def test_handOver(self) -> None:
        """
        With a socket of systemd's, the processes see to those who were let in.
        """
        self.successResultOf(self.processes.handOver())

    def test_nobodyIsLetIn(self) -> None:
        """
        The first process answers nothing.
        """
        self.assertIsNone(self.processes.buildProtocol(None))


# -*- test-case-name: tests.test_processes -*-
"""
The processes that serve, each as the one sees it that starts them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from signal import Signals
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from openai_server.inheritance import FIRST_PORT, LIFELINE, READY, VARIABLE, Inheritance

#: Bytes of a line; the rest of a longer one is a line of its own.
_LONGEST_LINE: Final = 1 << 20

# A session of its own, or a terminal's Ctrl-C would reach it beside the SIGTERM.
_CODE: Final = "import os; os.setsid(); from twisted.scripts.twistd import run; run()"

#: The options of twistd's that every process has.
_KEPT: Final = ("reactor", "logger", "prefix", "rundir")

#: What systemd tells the first process alone.
_FIRST_ONES: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class Port(Protocol):
    """
    What is used of a port.
    """

    def fileno(self) -> int: ...

    def pauseProducing(self) -> None: ...


class Command(NamedTuple):
    """
    How a worker is started.

    @ivar folder: in which paths are meant as they were said.
    """

    arguments: Sequence[str]
    environ: Mapping[str, str]
    folder: str


def commandFor(arguments: Iterable[str], twistd: Mapping[str, Any], environ: Mapping[str, str]) -> Command:
    """
    Return the command of a worker. It is no daemon of its own, and writes its
    log to this process, or to the same syslog.

    @param arguments: of the server.
    @param twistd: the options of this process's C{twistd}.
    """
    kept = [f"--{name}={twistd[name]}" for name in _KEPT if twistd.get(name)]
    flags = ["--syslog"] if twistd.get("syslog") else []
    own = (sys.executable, "-P", "-c", _CODE, "--nodaemon", "--pidfile=", *kept, *flags)
    inherited = {name: value for name, value in environ.items() if name not in _FIRST_ONES}
    return Command((*own, "openai-server", *arguments), inherited, os.getcwd())


class RunningWorker(ProcessProtocol):
    """
    A worker's process.
    """

    def __init__(
        self,
        number: int,
        write: Callable[[bytes], None],
        started: Callable[[], None],
        ended: Callable[[str], None],
    ) -> None:
        """
        @param write: is given whole lines that it has logged.
        @param started: is called once it serves.
        @param ended: is called with the reason when it is gone.
        """
        self._number = number
        self._write = write
        self._started = started
        self._ended = ended
        self._partial = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        It has said something.
        """
        if childFD == READY:
            self._started()
            return
        whole, newline, self._partial = (self._partial + data).rpartition(b"\n")
        self._say(whole + newline)
        if len(self._partial) > _LONGEST_LINE:
            self._finishLine()

    def processEnded(self, reason: Failure) -> None:
        """
        It has ended, and all that it said was read.
        """
        self._finishLine()
        status: Any = reason.value
        self._ended(Signals(status.signal).name if status.signal else f"exit code {status.exitCode}")

    @property
    def pid(self) -> int:
        """
        Its process id.
        """
        assert self.transport is not None
        pid: int = self.transport.pid
        return pid

    def signal(self, name: str) -> None:
        """
        Send it a signal.
        """
        assert self.transport is not None
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def _finishLine(self) -> None:
        if self._partial:
            self._say(self._partial + b"\n")
            self._partial = b""

    def _say(self, lines: bytes) -> None:
        if lines:
            # Whose lines they are is told in each.
            tag = b'{"process":%d,' % self._number
            self._write(b"".join(_tagged(line, tag) for line in lines.splitlines(keepends=True)))


def _tagged(line: bytes, tag: bytes) -> bytes:
    return tag + line[1:] if line.startswith(b'{"') else line


class Spawner:
    """
    Starts processes.
    """

    def __init__(self, reactor: Any, command: Command, write: Callable[[bytes], None]) -> None:
        """
        @param write: is given the lines that they log.
        """
        self._reactor = reactor
        self._command = command
        self._write = write

    def spawn(
        self,
        inheritance: Inheritance,
        ports: Sequence[Port],
        started: Callable[[], None],
        ended: Callable[[str], None],
    ) -> RunningWorker:
        """
        Start a process that accepts from these ports.

        @param started: is called once it serves.
        @param ended: is called with the reason when it is gone.
        @raise OSError: the system starts none.
        """
        protocol = RunningWorker(inheritance.number, self._write, started, ended)
        descriptors: dict[int, int | str] = {0: 0, 1: "r", 2: 2, LIFELINE: "w", READY: "r"}
        descriptors |= {FIRST_PORT + place: port.fileno() for place, port in enumerate(ports)}
        self._reactor.spawnProcess(
            protocol,
            self._command.arguments[0],
            self._command.arguments,
            {**self._command.environ, VARIABLE: inheritance.text()},
            self._command.folder,
            childFDs=descriptors,
        )
        return protocol

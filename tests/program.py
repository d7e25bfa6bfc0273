"""
The whole program in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

_RUN = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


class Program(ProcessProtocol):
    """
    C{twistd} in a process of its own.

    @ivar lines: what it wrote to its output.
    @ivar errors: the same for its standard error.
    @ivar exited: fires when the process is gone.
    @ivar ended: fires with the exit code, or minus the signal that killed it,
        once all that it wrote was read.
    @ivar runtime: its user's runtime directory.
    """

    def __init__(self) -> None:
        # Short, since it holds the path of a socket.
        self.runtime = Path(tempfile.mkdtemp(prefix="openai-server-tests-"))
        self.lines: list[str] = []
        self.errors = ""
        self.exited: Deferred[None] = Deferred()
        self.ended: Deferred[int] = Deferred()
        self._partial = ""
        self._waiting: list[tuple[tuple[str, ...], Deferred[None]]] = []

    @property
    def url(self) -> str:
        """
        Where it says that it listens.
        """
        said: str = next(json.loads(line)["message"] for line in self.lines if "listens on " in line)
        return said.partition("listens on ")[2].partition(";")[0]

    def outReceived(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data.decode()).split("\n")
        self.lines += lines
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode()

    def whenSaid(self, *words: str) -> Deferred[None]:
        """
        Fires when a line with all these words was written, and fails when the
        process ends before.
        """
        said: Deferred[None] = Deferred()
        self._waiting.append((words, said))
        self._look()
        return said

    def signal(self, number: int) -> None:
        """
        Send it a signal.
        """
        assert self.transport is not None
        self.transport.signalProcess(number)

    def readOutput(self, isReading: bool) -> None:
        """
        Read its output no more, or go on.
        """
        assert self.transport is not None
        pipe = self.transport.pipes[1]  # type: ignore[attr-defined]
        (pipe.resumeProducing if isReading else pipe.pauseProducing)()

    def processExited(self, reason: Failure) -> None:
        self.exited.callback(None)

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        for words, said in self._waiting:
            said.errback(AssertionError(f"{words!r} was never said: {self.lines} {self.errors}"))
        status = reason.value
        self.ended.callback(-status.signal if status.signal else status.exitCode)  # type: ignore[union-attr]

    def _look(self) -> None:
        for waiting in list(self._waiting):
            if any(all(words in line for words in waiting[0]) for line in self.lines):
                self._waiting.remove(waiting)
                waiting[1].callback(None)


def launch(
    test: TestCase,
    folder: Path,
    *arguments: str,
    twistd: tuple[str, ...] = ("-n",),
    passed: socket.socket | None = None,
    **environ: str,
) -> Program:
    """
    Run C{twistd openai-server} with hardly any environment: no HOME, no
    locale, and nothing that lasts unless that is asked for. It is killed when the test ends before it.

    @param folder: holds the user's files.
    @param twistd: what stands before the name of the plugin.
    @param passed: a listening socket, passed on as systemd does.
    """
    program = Program()
    command = [sys.executable, "-c", _RUN, *twistd, "--pidfile=", "openai-server", *arguments]
    descriptors: dict[int, int | str] = {0: "w", 1: "r", 2: "r"}
    if passed is not None:
        command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
        environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
        descriptors[3] = passed.fileno()
    folders = {
        "XDG_STATE_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(program.runtime),
    }
    environ = {"LANG": "C", "OPENAI_SERVER_STORE": "memory:", **folders, **environ}
    test.addCleanup(shutil.rmtree, program.runtime)
    reactor.spawnProcess(  # type: ignore[attr-defined]
        program, command[0], command, environ, str(folder), childFDs=descriptors
    )
    test.addCleanup(_kill, program)
    return program


def _kill(program: Program) -> Deferred[int] | None:
    if program.ended.called:
        return None
    program.signal(signal.SIGKILL)
    return program.ended

"""
Starting, pinning, measuring and stopping the processes of a run.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import benchmarks
from benchmarks.figures import RELAY, VOLATILE
from benchmarks.load import MODEL

_CHECKOUT = Path(benchmarks.__file__).parent.parent

#: Seconds for a process to begin to answer, and to end.
_START = 30.0
_STOP = 10.0


class StartError(Exception):
    """
    A process did not come up; the message ends with what it logged.
    """


@dataclass(frozen=True)
class Target:
    """
    A process that is measured.
    """

    name: str
    port: int
    pid: int

    def cpu(self) -> float | None:
        """
        CPU seconds that it has used, threads included; None where the system
        does not tell.
        """
        try:
            # clock_getcpuclockid(3) of Linux: exact, where /proc counts in ticks of 10 ms.
            return time.clock_gettime((~self.pid << 3) | 2)
        except (OSError, AttributeError):
            return self._cpuFromTicks()

    def _cpuFromTicks(self) -> float | None:
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int | None:
        """
        Resident bytes; None where the system does not tell.
        """
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")


class Run:
    """
    The processes of one run, in a folder of their own; all of them are stopped
    when the context is left, however it is left.

    @ivar usage: target -> CPU seconds and largest resident size of its whole
        life, known when it has ended.
    """

    def __init__(self) -> None:
        self.usage: dict[str, dict[str, float]] = {}
        self._stack = ExitStack()
        self._daemon = ""

    def __enter__(self) -> Run:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        self._measured, self._others = _cores()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def startDaemon(self) -> None:
        """
        Start the daemon, and pin it and this process to the core of the load.
        """
        self._daemon = str(self._folder / "thrum.sock")
        if self._others:
            os.sched_setaffinity(0, self._others)
        process = self._spawn("daemon", ["-m", "benchmarks.daemon", self._daemon], self._others)
        self._await("daemon", process, lambda: _connects(self._daemon))

    def start(self, name: str) -> Target:
        """
        Start what is measured, and wait until it answers.

        @raise StartError: it does not.
        """
        port = _freePort()
        if name == RELAY:
            arguments = ["-m", "benchmarks.relay", str(port), self._daemon]
        else:
            twistd = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
            arguments = ["-c", twistd, "-n", "--pidfile=", "openai-server"]
        process = self._spawn(name, arguments, self._measured, self._environment(name, port))
        self._await(name, process, lambda: _answers(port))
        return Target(name, port, process.pid)

    def _environment(self, name: str, port: int) -> dict[str, str]:
        state = self._folder / name
        (state / "hum").mkdir(parents=True, exist_ok=True)
        worker = {"name": "worker", "bee": ["worker"], "models": [MODEL], "hid": "bench"}
        (state / "hum" / "bees.json").write_text(json.dumps({"client-1": worker}))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "HUM_"))}
        return kept | {
            "HUM_THRUM_SOCK": self._daemon,
            "OPENAI_SERVER_PORT": str(port),
            "OPENAI_SERVER_MAX_TURNS": "0",
            "OPENAI_SERVER_STORE": "memory:" if name == VOLATILE else "sqlite:",
            "XDG_STATE_HOME": str(state),
            "XDG_CONFIG_HOME": str(self._folder / "config"),
            "XDG_RUNTIME_DIR": str(self._folder),
        }

    def _spawn(
        self, name: str, arguments: list[str], cores: set[int], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context(self._log(name).open("wb"))
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=_CHECKOUT if name in ("daemon", RELAY) else self._folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        self._stack.callback(self._stop, name, process)
        if cores:
            os.sched_setaffinity(process.pid, cores)
        return process

    def _stop(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """
        Ask it to end; end it when it does not.
        """
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP
        pid = 0
        while not pid and process.returncode is None:
            if time.monotonic() > deadline:
                process.kill()
            # Not Popen.wait: it keeps what the process used to itself.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                self.usage[name] = {"cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}
            else:
                time.sleep(0.02)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def log(self, name: str) -> str:
        """
        The end of what a process has logged.
        """
        return self._log(name).read_text(errors="replace")[-2000:]

    def _await(self, name: str, process: subprocess.Popen[bytes], isUp: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START
        while not isUp():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"the {name} does not answer; its log ends:\n{self.log(name)}")
            time.sleep(0.05)


def _cores() -> tuple[set[int], set[int]]:
    """
    The core of what is measured, and those of the rest; empty sets where cores
    cannot be chosen, or there is one alone.
    """
    if not hasattr(os, "sched_setaffinity"):
        return set(), set()
    first, *rest = sorted(os.sched_getaffinity(0))
    return ({first}, {rest[0]}) if rest else (set(), set())


def _freePort() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

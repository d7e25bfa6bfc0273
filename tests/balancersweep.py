"""
A tool loop with two servers over one PostgreSQL, and a balancer that sends
each request to the other one; one of the servers is killed at every point.

    python -m tests.balancersweep [--every N] [--kinds chat,stream,responses]

What has to hold is what L{tests.crashsweep} says.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool
from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread

from tests.crashsweep import (
    NOT_ANSWERED,
    PATIENCE,
    Server,
    Zygote,
    chatLoop,
    daemonIn,
    problemsOf,
    responsesLoop,
    runAsAsked,
)
from tests.recorder import StrictRecorder
from tests.store import postgresql


class Balancer:
    """
    Sends each request to another server than the one before.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._turn = 0

    def ask(self, path: str, body: Any) -> bytes:
        """
        Ask until there is a complete answer. Servers that have died are
        started again, while others answer.
        """
        # Both may have to be started.
        until = time.monotonic() + 3 * PATIENCE
        while time.monotonic() < until:
            self._turn += 1
            for server in self._servers:
                if not server.isAlive:
                    server.hasDied = True
                    server.start()
            try:
                server = self._servers[self._turn % len(self._servers)]
                return server.asked(path, json.dumps(body).encode())
            except NOT_ANSWERED:
                time.sleep(0.02)
        raise AssertionError("there was never an answer")


class BalancerSweep:
    """
    One loop after the other, each with a server that dies at another point.

    @ivar failures: what did not hold, in words.
    @ivar deaths: how many servers died.
    @ivar points: at how many they might have.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.deaths = 0
        self.points = 0
        self._database = postgresql.server()
        self._database.clear()
        self._zygotes = [Zygote(), Zygote()]

    def close(self) -> None:
        """
        End everything.
        """
        for zygote in self._zygotes:
            zygote.close()

    def sweep(self, kinds: Sequence[str], every: int) -> None:
        """
        Sweep, in a thread that is not the reactor's.

        @param every: only each point of so many.
        """
        for kind in kinds:
            counts = self.run(kind, [0, 0])
            self.points += sum(counts)
            for which, count in enumerate(counts):
                for deadly in range(1 + every // 2, count + 1, every):
                    self.run(kind, [deadly, 0] if which == 0 else [0, deadly])

    def run(self, kind: str, deadly: Sequence[int]) -> list[int]:
        """
        Run a loop.

        @param deadly: the point at which each server dies; 0 for none.
        @return: how many points each passed.
        """
        self._empty()
        folder = Path(tempfile.mkdtemp(prefix="openai-server-tests-"))
        recorder = StrictRecorder()
        daemon = blockingCallFromThread(reactor, daemonIn, folder, recorder)
        servers = [
            Server(folder, daemon, zygote, self._database.url, name)
            for zygote, name in zip(self._zygotes, "ab", strict=True)
        ]
        ran: Counter[str] = Counter()
        try:
            for server, point in zip(servers, deadly, strict=True):
                server.start(point)
            balancer = Balancer(servers)
            word = (
                responsesLoop(balancer, ran)
                if kind == "responses"
                else chatLoop(balancer, ran, kind == "stream")
            )
            points = [server.points.stat().st_size for server in servers]
            problems = [*problemsOf(recorder, ran, word), *self._problemsOf(servers)]
        except Exception as error:
            logs = [server.log.read_text()[-3000:] for server in servers if server.log.exists()]
            points, problems = [0, 0], [f"{type(error).__name__}: {error}; logs: {logs}"]
        finally:
            for zygote in self._zygotes:
                zygote.kill()
            blockingCallFromThread(reactor, daemon.stop)
            shutil.rmtree(folder)
        for problem in problems:
            self.failures.append(f"{kind} at {list(deadly)}: {problem}")
            print(self.failures[-1], file=sys.stderr, flush=True)
        return points

    def _problemsOf(self, servers: Sequence[Server]) -> Iterable[str]:
        for server in servers:
            status = server.stop()
            self.deaths += server.hasDied or status == -signal.SIGKILL
            # One that was just started again knows no signals yet.
            if status not in (0, -signal.SIGKILL, -signal.SIGTERM, None):
                yield f"a server ended with {status}"
            log = server.log.read_text()
            for word in ("Traceback", "critical", "degraded"):
                if word in log:
                    yield f"{word!r} in the log: {log[-3000:]}"

    def _empty(self) -> None:
        """
        Remove all rows: to make the tables takes longer.
        """
        engine = create_engine(self._database.url, poolclass=NullPool)
        kept = {"alembic_version", "secrets"}
        with engine.begin() as connection:
            names = [name for name in inspect(connection).get_table_names() if name not in kept]
            if names:
                connection.execute(text(f"TRUNCATE {', '.join(names)}"))


def main() -> None:
    """
    Sweep as the command line says.
    """
    swept = BalancerSweep()
    try:
        runAsAsked("Kill one of two servers at every point of a tool loop.", swept.sweep)
    finally:
        swept.close()
    print(
        f"{swept.deaths} servers were killed at some of {swept.points} points, "
        f"{len(swept.failures)} things did not hold"
    )
    sys.exit(bool(swept.failures) or not swept.deaths)


if __name__ == "__main__":
    main()

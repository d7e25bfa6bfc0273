"""
An embedded daemon in memory with its clock, for one test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.embedded.bees import Bee
from tests.machinery.daemon import DaemonSettings, FaultyDaemon
from tests.support import SyncCase, TestClock


class World:
    """
    A started daemon with the models for tests, its clock, and its clients.
    """

    def __init__(self, test: SyncCase, *, folder: bool = False, **settings: Any) -> None:
        self.clock = TestClock()
        self.daemon = FaultyDaemon(
            clock=self.clock,
            settings=DaemonSettings(**settings),
            directory=self._made(test) if folder else None,
            now=lambda: 1_000_000.0 + self.clock.seconds(),
        )
        self.daemon.start()
        test.addCleanup(self._stop, test)

    def _made(self, test: SyncCase) -> Path:
        directory = Path(test.mktemp())
        directory.mkdir(parents=True)
        return directory

    def _stop(self, test: SyncCase) -> None:
        if self.daemon.running:
            test.successResultOf(self.daemon.stop())
        test.assertEqual(self.clock.getDelayedCalls(), [], "timers are left")

    @property
    def registry(self) -> dict[str, Any]:
        """
        What the registry file says.
        """
        assert self.daemon.registryPath is not None
        read: dict[str, Any] = json.loads(self.daemon.registryPath.read_text())
        return read

    def bee(self, name: str = "a", *tools: str) -> Bee:
        """
        A connected bee that has said hello.
        """
        bee = Bee(self.daemon, name)
        bee.hello(*tools)
        return bee

    def ask(self, content: Any, model: str = "script", sid: str = "s1", **members: Any) -> Bee:
        """
        A bee that has put a prompt, after half a second.
        """
        bee = self.bee()
        bee.prompt(sid, content, model, **members)
        self.clock.advance(0.5)
        return bee

"""
The program before several daemons, which listen on sockets of this process.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from openai_server.clock import MonotonicClock
from tests.machinery.daemon import DaemonSettings, FaultyDaemon
from tests.machinery.models import TEST_MODELS
from tests.program import launch
from tests.support import AsyncCase
from tests.test_severalprocesses import answered, asked


class DaemonsTests(AsyncCase):
    """
    From the configuration file to the answers.
    """

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.daemons = [self.daemon("eastern"), self.daemon("western")]
        self.prompts = {"east": 0, "west": 0}
        for name, daemon in zip(self.prompts, self.daemons, strict=True):
            daemon.lineObserver = self.counter(name)

    def daemon(self, model: str) -> FaultyDaemon:
        """
        A daemon that listens, with a model of its own beside the usual ones.
        """
        folder = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, folder)
        settings = DaemonSettings(
            models={"echo": TEST_MODELS["echo"], model: TEST_MODELS["echo"]}, startUp=0, workerReturn=0
        )
        made = FaultyDaemon(
            clock=MonotonicClock(reactor),  # type: ignore[arg-type]
            settings=settings,
            directory=folder,
            reactor=reactor,
        )
        made.start()
        self.addCleanup(made.stop)
        return made

    def counter(self, name: str) -> Any:
        """
        What counts the prompts that a daemon is sent.
        """

        def count(line: bytes) -> None:
            self.prompts[name] += b'"chi":"prompt"' in line

        return count

    def write(self, weight: float) -> str:
        """
        Write the configuration file.
        """
        upstreams = [
            {
                "name": name,
                "socket": str(each.socketPath),
                "registry": str(each.registryPath),
                "weight": weight,
            }
            for name, each in zip(self.prompts, self.daemons, strict=True)
        ]
        path = self.home / "settings.json"
        path.write_text(json.dumps({"upstreams": upstreams}))
        return str(path)

    async def test_wholeLife(self) -> None:
        """
        Both are greeted, reached and asked; one that dies is left out and
        named, and used again when it is back. What they are is read at the
        start.
        """
        program = launch(self, self.home, "--port", "0", "--config", self.write(1))
        for name, daemon in zip(self.prompts, self.daemons, strict=True):
            await program.whenSaid(f"the daemon {name}'s socket: {daemon.socketPath}")
            await program.whenSaid(f"connected to the daemon {name}")
        url = program.url
        models = await deferToThread(answered, f"{url}/v1/models")
        self.assertEqual({model["id"] for model in models["data"]}, {"echo", "eastern", "western"})
        self.assertEqual(await deferToThread(answered, f"{url}/readyz"), {"status": "ready"})
        self.assertEqual(await deferToThread(asked, url), "hello")
        self.assertEqual(self.prompts, {"east": 1, "west": 0})
        await self.daemons[0].crash()
        await program.whenSaid("no connection to the daemon east: ")
        self.assertEqual(await deferToThread(asked, url), "hello")
        ready = await deferToThread(answered, f"{url}/readyz")
        self.assertEqual(ready, {"status": "ready", "away": ["east"]})
        self.assertEqual(self.prompts, {"east": 1, "west": 1})
        program.lines.clear()
        self.daemons[0].comeBack()
        await program.whenSaid("connected to the daemon east")
        self.assertEqual(await deferToThread(asked, url), "hello")
        self.assertEqual(self.prompts, {"east": 2, "west": 1})
        self.write(2)
        program.signal(signal.SIGHUP)
        await program.whenSaid("changes that need a restart: upstreams")
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(program.errors, "")

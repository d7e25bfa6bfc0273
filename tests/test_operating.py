"""
The whole program in an operator's hands: its log, its signals, its files.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.program import Program, launch
from tests.serving import PATIENCE
from tests.support import AsyncCase


def statuses(url: str, count: int = 1, key: str = "") -> set[int]:
    """
    Ask for the models again and again, on one connection. Blocks.
    """
    connection = HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    found: set[int] = set()
    try:
        for _ in range(count):
            connection.request("GET", "/v1/models", headers=headers)
            answer = connection.getresponse()
            answer.read()
            found.add(answer.status)
    finally:
        connection.close()
    return found


class OperatingCase(AsyncCase):
    """
    A program in a home of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()

    async def serve(self, *arguments: str, twistd: tuple[str, ...] = ("-n",)) -> Program:
        """
        Start the program, and wait until it serves.
        """
        program = launch(self, self.home, "--embedded", "--port", "0", *arguments, twistd=twistd)
        if "-l" not in twistd:
            await program.whenSaid("connected to the daemon")
        return program

    async def until(self, isSo: Callable[[], bool], program: Program) -> None:
        """
        Ends once it is so.
        """
        while not isSo():
            self.assertFalse(program.ended.called, program.errors)
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]


class LogTests(OperatingCase):
    """
    A log that nobody reads.
    """

    async def test_pipeThatNobodyReads(self) -> None:
        """
        V16: the server serves on, and gives its lines to whoever reads again.
        """
        program = await self.serve()
        program.readOutput(False)
        self.assertEqual(await deferToThread(statuses, program.url, 1000), {200})
        program.readOutput(True)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(sum("/v1/models" in json.loads(line)["message"] for line in program.lines), 1000)

    async def test_stopsWithoutAReader(self) -> None:
        """
        V16: SIGTERM ends it all the same.
        """
        program = await self.serve()
        program.readOutput(False)
        await deferToThread(statuses, program.url, 1000)
        program.signal(signal.SIGTERM)
        await program.exited
        program.readOutput(True)
        self.assertEqual(await program.ended, 0)


class SignalTests(OperatingCase):
    """
    P22: signals that are no shutdown.
    """

    async def test_key(self) -> None:
        """
        SIGHUP takes another API key from the file, and leaves things as they
        are when the file is no good; SIGUSR1 and SIGUSR2 do nothing.
        """
        file = self.home / "config.json"

        def write(key: str) -> None:
            file.write_text(json.dumps({"apiKey": key}))
            file.chmod(0o600)

        write("first-key")
        program = await self.serve("--config", str(file))
        write("second-key")
        program.signal(signal.SIGUSR1)
        program.signal(signal.SIGUSR2)
        program.signal(signal.SIGHUP)
        await program.whenSaid("SIGHUP")
        self.assertEqual(await deferToThread(statuses, program.url, key="first-key"), {401})
        self.assertEqual(await deferToThread(statuses, program.url, key="second-key"), {200})
        for content, said in (("{", "not JSON"), ("{}", "the API key stays as it was")):
            file.write_text(content)
            program.signal(signal.SIGHUP)
            await program.whenSaid(said)
            self.assertEqual(await deferToThread(statuses, program.url), {401})
            self.assertEqual(await deferToThread(statuses, program.url, key="second-key"), {200})
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertNotIn("-key", "".join(program.lines))

    async def test_settings(self) -> None:
        """
        SIGHUP takes other limits and models from the file, says which changes
        need a restart, and from then on logs what it is to log.
        """
        file = self.home / "config.json"
        audit = self.home / "audit.jsonl"
        said = {"apiKey": "the-key", "auditLog": str(audit), "models": ["one"]}
        file.write_text(json.dumps(said))
        file.chmod(0o600)
        program = await self.serve("--config", str(file))
        audit.rename(self.home / "aside.jsonl")
        file.write_text(json.dumps({**said, "models": ["two"], "strict": True, "logLevel": "warn"}))
        program.signal(signal.SIGHUP)
        await program.whenSaid("changes that need a restart: strict")
        await program.whenSaid("settings that changed: models, logLevel")
        await self.until(audit.exists, program)
        self.assertEqual(await deferToThread(statuses, program.url, key="the-key"), {200})
        await self.until(lambda: '"route":"/v1/models"' in audit.read_text(), program)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertNotIn("/v1/models", "".join(program.lines))

    async def test_logFile(self) -> None:
        """
        V17: SIGHUP goes on in a new file when the old one was put aside.
        """
        file, aside = self.home / "server.log", self.home / "aside.log"
        program = await self.serve(twistd=("-n", "-l", "server.log"))
        await self.until(lambda: file.exists() and "connected to" in file.read_text(), program)
        file.rename(aside)
        program.signal(signal.SIGHUP)
        await self.until(lambda: file.exists() and "SIGHUP" in file.read_text(), program)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertNotIn("SIGHUP", aside.read_text())
        self.assertIn("SIGTERM", file.read_text())

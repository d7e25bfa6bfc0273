"""
Several processes on one port, as the operator runs them: real ones, on a real
PostgreSQL, with a daemon in the test's own process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import urllib.request
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.threads import deferToThread

from openai_server.clock import MonotonicClock
from openai_server.embedded.daemon import EmbeddedDaemon
from tests import test_listening
from tests.program import Program, launch
from tests.serving import PATIENCE
from tests.store.postgresql import server
from tests.support import AsyncCase
from tests.test_tap import Client, chatRequest


def answered(url: str, body: Any = None) -> Any:
    """
    Ask on a connection of its own. Blocks.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def asked(url: str) -> str:
    """
    Ask for an answer. Blocks.
    """
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    return str(answered(f"{url}/v1/chat/completions", body)["choices"][0]["message"]["content"])


class SeveralCase(AsyncCase):
    """
    A home, a daemon and an empty database.
    """

    timeout = 180

    def setUp(self) -> None:
        super().setUp()
        server().clear()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        folder = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, folder)
        self.daemon = EmbeddedDaemon(clock=MonotonicClock(reactor), directory=folder, reactor=reactor)  # type: ignore[arg-type]
        self.daemon.startService()
        self.addCleanup(self.daemon.stopService)

    def launched(self, *arguments: str, passed: socket.socket | None = None) -> Program:
        """
        The program with two processes that serve.
        """
        return launch(
            self,
            self.home,
            *("--port", "0", "--processes", "2", *arguments),
            passed=passed,
            HUM_THRUM_SOCK=str(self.daemon.socketPath),
            OPENAI_SERVER_REGISTRY_FILE=str(self.daemon.registryPath),
            OPENAI_SERVER_STORE=server().url,
        )

    async def serving(self, *arguments: str) -> Program:
        """
        The same, once both serve.
        """
        program = self.launched(*arguments)
        for number in (1, 2):
            await program.whenSaid(f'{{"process":{number},', "connected to the daemon")
        return program


class LifeTests(SeveralCase):
    """
    From the start to the end.
    """

    async def test_wholeLife(self) -> None:
        """
        (P41, P42) Both serve, each with a key of its own; one that is killed is
        replaced, and the port answers meanwhile; all drain at SIGTERM.
        """
        program = await self.serving()
        url = program.url
        self.assertEqual(await deferToThread(asked, url), "hello")
        keys = sorted(path.name for path in (self.home / "hum" / "bees").iterdir())
        self.assertEqual(keys, ["openai-server-2.key", "openai-server.key"])
        said = "\n".join(program.lines)
        (pid,) = re.findall(r"process 2 has the PID ([0-9]+)", said)
        program.lines.clear()
        os.kill(int(pid), signal.SIGKILL)
        await program.whenSaid("process 2 ended: SIGKILL; another one starts in")
        for _ in range(5):
            self.assertEqual(await deferToThread(asked, url), "hello")
        await program.whenSaid("process 2 has the PID")
        await program.whenSaid('{"process":2,', "connected to the daemon")
        self.assertEqual(len(list((self.home / "hum" / "bees").iterdir())), 2)
        program.signal(signal.SIGHUP)
        for number in (1, 2):
            await program.whenSaid(f'{{"process":{number},', "SIGHUP")
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        ends = [json.loads(line) for line in program.lines if "no new requests" in line]
        self.assertEqual(sorted(end.get("process", 0) for end in ends), [0, 1, 2])
        self.assertEqual(program.errors, "")
        self.assertFalse([line for line in program.lines if "Traceback" in line or '"failure"' in line])

    async def test_clientGoesAround(self) -> None:
        """
        (D41, D42) A client whose connections end up at either process finds
        what it has, and what is made for it, at both.
        """
        program = await self.serving()
        statuses, texts = await deferToThread(self.goAround, f"{program.url}/v1/responses")
        # At first nobody may have begun to answer it.
        begun = ["in_progress" if each == "queued" else each for each in statuses]
        self.assertEqual(begun, ["in_progress"] * 12 + ["cancelled"] * 4)
        self.assertEqual(texts, ["two"] * 8)
        met = {json.loads(line).get("process") for line in program.lines if "/v1/responses" in line}
        self.assertEqual(met, {1, 2})

    def goAround(self, url: str) -> tuple[list[str], list[str]]:
        """
        Go on from answers at once, and look at one in the background.
        """
        texts: list[str] = []
        for _ in range(8):
            first = answered(url, {"model": "echo", "input": "one"})
            second = {"model": "echo", "input": "two", "previous_response_id": first["id"]}
            texts.append(answered(url, second)["output"][0]["content"][0]["text"])
        long = answered(url, {"model": "echo", "input": "word " * 20_000, "background": True})
        looks = [answered(f"{url}/{long['id']}") for _ in range(12)]
        looks += [answered(f"{url}/{long['id']}/cancel", {})]
        looks += [answered(f"{url}/{long['id']}") for _ in range(3)]
        return [look["status"] for look in looks], texts

    async def test_drainsAndThenEndsAtOnce(self) -> None:
        """
        (P42) After SIGTERM a stream goes on while the port is closed; after a
        second one it is told.
        """
        program = await self.serving()
        port = int(program.url.rsplit(":", 1)[1])
        client = Client(chatRequest("word " * 3000))
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
        await client.whenRead(b"word", 5)
        program.signal(signal.SIGTERM)
        for number in (1, 2):
            await program.whenSaid(f'{{"process":{number},', "no new requests")
        await client.whenRead(b"word", 20)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        await client.lost
        self.assertIn(b"shutting_down", client.read)
        self.assertNotIn(b"[DONE]", client.read)

    async def test_firstOneIsKilled(self) -> None:
        """
        (P44) The others end by themselves, and close the port.
        """
        program = await self.serving()
        url = program.url
        program.signal(signal.SIGKILL)
        # All of them have its standard error, and this fires when nobody has it open.
        self.assertEqual(await program.ended, -signal.SIGKILL)
        error = self.assertRaises(OSError, asked, url)
        self.assertIsInstance(getattr(error, "reason", None), ConnectionRefusedError)

    async def test_startThatFails(self) -> None:
        """
        (P40) Ends the whole program, with the reason and a status that says so.
        """
        (self.home / "hum" / "bees").mkdir(parents=True)
        file = self.home / "hum" / "bees" / "openai-server.key"
        file.write_bytes(b"half")
        file.chmod(0o600)
        program = self.launched()
        self.assertEqual(await program.ended, 1)
        said = [json.loads(line)["message"] for line in program.lines]
        self.assertIn(f"key file {file}: holds 4 bytes, not the 32 of a key", said)
        self.assertTrue(any("ended before it served: exit code 1" in line for line in said), said)
        self.assertEqual(program.errors, "")


def scraped(path: Path) -> str:
    """
    Return the metrics that are served on a Unix socket. Blocks.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.read().decode()


class MetricsTests(SeveralCase):
    """
    Each process counts for itself.
    """

    async def test_ports(self) -> None:
        """
        So each has a port of its own for that; all requests are on one of them.
        """
        folder = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, folder)
        program = await self.serving("--metrics", f"unix:{folder}/m")
        for _ in range(3):
            self.assertEqual(await deferToThread(asked, program.url), "hello")
        counted = 0.0
        for name in ("m", "m-2"):
            page = await deferToThread(scraped, folder / name)
            self.assertIn("\nopenai_server_daemon_connected 1.0\n", page)
            found = re.findall(r'^openai_server_requests_total\{.*end="ok".*\} (.*)$', page, re.MULTILINE)
            counted += sum(map(float, found))
        self.assertEqual(counted, 3)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(list(folder.iterdir()), [])


class PassedToSeveralTests(SeveralCase, test_listening.PassedTests):
    """
    (P24) The same with a socket of systemd's.
    """

    def program(self, passed: socket.socket) -> Program:
        """
        Start the program on this socket.
        """
        family = "UNIX" if passed.family == socket.AF_UNIX else "INET"
        arguments = ("--insecure-no-auth", "--listen", f"systemd:domain={family}:index=0")
        return self.launched(*arguments, passed=passed)


class RefusalTests(AsyncCase):
    """
    (P45) What is not for several processes.
    """

    async def refusal(self, *arguments: str, **environ: str) -> str:
        """
        Why the program does not start.
        """
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        program = launch(self, home, *arguments, **environ)
        self.assertEqual(await program.ended, 1)
        self.assertEqual(program.lines, [])
        return program.errors

    async def test_files(self) -> None:
        """
        Memory and a file are one process's.
        """
        for store in ("memory:", "sqlite:"):
            self.assertEqual(
                await self.refusal("--processes", "2", OPENAI_SERVER_STORE=store),
                "openai-server: option --processes: processes 2: several processes need a store in"
                " PostgreSQL (--store postgresql+psycopg://USER@HOST/DATABASE)\n",
            )

    async def test_metrics(self) -> None:
        """
        A port of which there is only one.
        """
        said = await self.refusal("--processes", "2", "--metrics", "systemd:domain=INET:index=0")
        self.assertIn("processes 2: each has its own metrics, and there is no second port like", said)

    async def test_embedded(self) -> None:
        """
        So is the embedded daemon.
        """
        self.assertEqual(
            await self.refusal("--embedded", OPENAI_SERVER_PROCESSES="3"),
            "openai-server: environment OPENAI_SERVER_PROCESSES: processes 3: the embedded daemon serves"
            " one process\n",
        )

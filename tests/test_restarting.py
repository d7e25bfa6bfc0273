"""
What outlasts the process: the whole program, ended and started again.
"""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.balancersweep import BalancerSweep
from tests.crashsweep import KINDS, sweep
from tests.program import Program, launch
from tests.store.postgresql import server
from tests.support import AsyncCase

KEY = "sk-lasting"


class CrashTests(AsyncCase):
    """
    A tool loop whose server dies on its way.
    """

    timeout = 240

    async def test_someOfAllPoints(self) -> None:
        """
        X40, X42: nothing is lost and nothing done twice, wherever the server is
        killed. All points: C{python -m tests.crashsweep}.
        """
        swept = await deferToThread(sweep, KINDS, 61)
        self.assertEqual(swept.failures, [])
        self.assertGreater(swept.deaths, 3)

    async def test_oneOfTwo(self) -> None:
        """
        X66: the same with two servers over one PostgreSQL, where each request
        reaches the other one. All points: C{python -m tests.balancersweep}.
        """
        swept = BalancerSweep()
        try:
            await deferToThread(swept.sweep, ["chat"], 101)
        finally:
            swept.close()
        self.assertEqual(swept.failures, [])
        self.assertGreater(swept.deaths, 1)


class RestartTests(AsyncCase):
    """
    Kept responses.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()

    async def started(self, store: str) -> Program:
        """
        The program, ready.
        """
        environ = {"OPENAI_SERVER_API_KEY": KEY, "OPENAI_SERVER_STORE": store}
        program = launch(self, self.home, "--embedded", "--port", "0", **environ)
        await program.whenSaid("connected to the daemon")
        return program

    async def asked(self, program: Program, path: str, body: Any = None) -> Any:
        """
        What a request is answered with.
        """
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(program.url + path, data, headers)

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        return await deferToThread(ask)

    async def keepsThrough(self, number: int, store: str) -> Program:
        """
        See that a response and what it goes on from are there after the program
        was ended by this signal.
        """
        program = await self.started(store)
        first = await self.asked(program, "/v1/responses", {"model": "echo", "input": "one"})
        path = f"/v1/responses/{first['id']}"
        kept = await self.asked(program, path)
        program.signal(number)
        await program.ended
        self.assertEqual(program.errors, "")
        program = await self.started(store)
        self.assertEqual(await self.asked(program, path), kept)
        further = {"model": "echo", "input": "two", "previous_response_id": first["id"]}
        second = await self.asked(program, "/v1/responses", further)
        items = await self.asked(program, f"/v1/responses/{second['id']}/input_items?order=asc")
        said = [part["text"] for item in items["data"] for part in item["content"]]
        self.assertEqual(said, ["one", "one", "two"])
        self.assertEqual(await self.asked(program, "/readyz"), {"status": "ready"})
        return program

    async def test_killed(self) -> None:
        """
        (D12) A file in the state folder is made, for this user alone, and it
        outlasts SIGKILL.
        """
        await self.keepsThrough(signal.SIGKILL, "sqlite:")
        folder = self.home / "hum"
        files = {path.name: path.stat().st_mode & 0o777 for path in folder.glob("openai-server.db*")}
        self.assertEqual(set(files.values()), {0o600}, files)
        self.assertIn("openai-server.db-promised", files)

    async def test_terminated(self) -> None:
        """
        On PostgreSQL, all is saved at SIGTERM.
        """
        server().clear()
        program = await self.keepsThrough(signal.SIGTERM, server().url)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)

    async def test_unreachable(self) -> None:
        """
        It serves without its database, says so, and shows no password.
        """
        program = await self.started("postgresql+psycopg://me:s3cret-word@127.0.0.1:1/db?connect_timeout=2")
        self.assertEqual(await self.asked(program, "/readyz"), {"status": "degraded", "store": "unreachable"})
        first = await self.asked(program, "/v1/responses", {"model": "echo", "input": "one"})
        self.assertEqual((await self.asked(program, f"/v1/responses/{first['id']}"))["id"], first["id"])
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        said = "\n".join(program.lines) + program.errors
        self.assertIn("the store is degraded, unreachable", said)
        self.assertNotIn("s3cret-word", said)

    async def test_refused(self) -> None:
        """
        A store that cannot be had is one line, and the program ends.
        """
        program = launch(self, self.home, "--embedded", "--port", "0", OPENAI_SERVER_STORE="sqlite:///")
        self.assertEqual(await program.ended, 1)
        wanted = "memory:, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"
        said = f"environment OPENAI_SERVER_STORE: store: the value is not {wanted}"
        self.assertEqual(program.errors, f"openai-server: {said}\n")

    async def test_fileOfAnotherServer(self) -> None:
        """
        (D40) So is one that another server uses, which serves on.
        """
        first = await self.started("sqlite:")
        second = launch(self, self.home, "--embedded", "--port", "0", OPENAI_SERVER_STORE="sqlite:")
        self.assertEqual(await second.ended, 1)
        (line,) = second.lines
        said = (
            "another server uses it: stop that one, or name another store with --store;"
            " a file is for one server, several share PostgreSQL"
        )
        file = self.home / "hum" / "openai-server.db"
        self.assertEqual(json.loads(line)["message"], f"store {file}: {said}")
        self.assertEqual(await self.asked(first, "/readyz"), {"status": "ready"})

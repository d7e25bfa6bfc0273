"""
Tests for L{openai_server.resource}: the server in a site of one's own, with the
embedded daemon and real sockets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.python.usage import UsageError
from twisted.web.resource import Resource
from twisted.web.server import Site

import openai_server
from tests.support import AsyncCase


class MountingTests(AsyncCase):
    """
    One application, in which the API is a part of a site.
    """

    def setUp(self) -> None:
        super().setUp()
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        self.environ = {"HOME": str(home), "XDG_RUNTIME_DIR": "/tmp"}

    async def test_wholeWay(self) -> None:
        """
        It answers below the path that it was put at, streamed too, while its
        service runs.
        """
        api = openai_server.resource("--embedded", environ=self.environ)
        root = Resource()
        root.putChild(b"ai", api)
        port: Any = reactor.listenTCP(0, Site(root), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/ai/v1"

        async def ask(path: str, body: object = None) -> tuple[int, bytes]:
            if body is None:
                response = await treq.get(url + path, persistent=False)
            else:
                response = await treq.post(url + path, json=body, persistent=False)
            return response.code, await response.content()

        self.assertEqual((await ask("/models"))[0], 503)
        api.service.startService()
        status, body = await ask("/models")
        self.assertIn("echo", [model["id"] for model in json.loads(body)["data"]])
        question = {"model": "echo", "messages": [{"role": "user", "content": "alpha beta"}]}
        while True:
            status, body = await ask("/chat/completions", question)
            if status != 503:
                break
        self.assertEqual(json.loads(body)["choices"][0]["message"]["content"], "alpha beta")
        status, body = await ask("/chat/completions", {**question, "stream": True})
        self.assertTrue(body.endswith(b"data: [DONE]\n\n"), body)
        await api.service.stopService()
        self.assertEqual((await ask("/models"))[0], 503)

    def test_badOptions(self) -> None:
        """
        What cannot be used is said at once.
        """
        self.assertRaises(UsageError, openai_server.resource, "--port", "x", environ=self.environ)

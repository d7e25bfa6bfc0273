"""
The official C{openai} package as a client with limits: what it raises, what it
asks again and when, and what it can read of what is left.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import openai

from openai_server.admin.program import run
from tests.serving import ServingCase, inThread, user


class LimitTests(ServingCase):
    """
    Keys with limits, over a real socket.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        self.store = f"sqlite:///{Path(self.mktemp()).absolute()}/store.db"
        self.environment = {"STORE": self.store}
        self.keys = {
            "alice": self.added("alice", "--rpm", "1"),
            "bob": self.added("bob", "--tokens-per-day", "1"),
            "carol": self.added("carol", "--models", "echo"),
        }
        await super().setUp()

    def added(self, *arguments: str) -> str:
        """
        A new key.
        """
        out = io.StringIO()
        command = ("--store", self.store, "keys", "add", *arguments)
        self.assertEqual(run(command, {"HOME": os.getcwd()}, out, out, 0.0), 0, out.getvalue())
        return out.getvalue().strip()

    @inThread
    def test_rateLimit(self) -> None:
        """
        What is left is in the headers of an answer; beyond it, the package
        raises its error for that, with when to come again.
        """
        client = self.newClient(api_key=self.keys["alice"])
        raw = client.chat.completions.with_raw_response.create(model="echo", messages=user("x"))
        self.assertEqual(raw.headers["x-ratelimit-limit-requests"], "1")
        self.assertEqual(raw.headers["x-ratelimit-remaining-requests"], "0")
        self.assertRegex(raw.headers["x-ratelimit-reset-requests"], r"\A(1m0s|[0-9.]+s)\Z")
        for create in (
            lambda: client.chat.completions.create(model="echo", messages=user("x")),
            lambda: client.chat.completions.create(model="echo", messages=user("x"), stream=True),
            lambda: client.responses.create(model="echo", input="x"),
        ):
            with self.assertRaises(openai.RateLimitError) as caught:
                create()
            error = caught.exception
            self.assertEqual((error.code, error.type), ("rate_limit_exceeded", "rate_limit_error"))
            self.assertLessEqual(int(error.response.headers["retry-after-ms"]), 60_000)
            self.assertLessEqual(int(error.response.headers["retry-after"]), 60)

    @inThread
    def test_retried(self) -> None:
        """
        The package waits as long as it is told to, and is answered then.
        """
        client = self.newClient(api_key=self.keys["alice"], max_retries=1)
        client.chat.completions.create(model="echo", messages=user("one"))
        self.inReactor(self.serving.clock.skip, 59.5)
        raw = client.chat.completions.with_raw_response.create(model="echo", messages=user("two"))
        self.assertEqual((raw.retries_taken, raw.parse().choices[0].message.content), (1, "two"))
        self.assertEqual(self.serving.ends[:2], ["ok", "limit"])

    @inThread
    def test_quota(self) -> None:
        """
        A budget that is used up is not asked for again.
        """
        client = self.newClient(api_key=self.keys["bob"], max_retries=2)
        with self.assertRaises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="echo", messages=user("far too much"))
        self.assertEqual((caught.exception.code, caught.exception.type), ("insufficient_quota",) * 2)
        self.inReactor(self.serving.whenEnded, "limit")
        self.assertEqual(self.serving.ends, ["limit"])

    @inThread
    def test_keys(self) -> None:
        """
        Wrong keys, and models that a key may not use.
        """
        with self.assertRaises(openai.AuthenticationError) as refused:
            self.newClient(api_key="sk-hum-wrong").models.list()
        self.assertEqual(refused.exception.code, "invalid_api_key")
        client = self.newClient(api_key=self.keys["carol"])
        self.assertEqual({model.id for model in client.models.list()} & {"echo", "script"}, {"echo"})
        with self.assertRaises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="script", messages=user("x"))
        self.assertEqual(missing.exception.code, "model_not_found")

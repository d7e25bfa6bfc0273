"""
What a client may see of a fault: an error with a status, or a stream that is
cut and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.support import SyncCase
from tests.world import Client, World

Rewrite = Callable[[bytes], Sequence[bytes]]


def chunk(text: Any, **members: Any) -> dict[str, Any]:
    """
    A script's step that shows one text delta, and nothing around it.
    """
    return {"raw": {"chi": "chunk", "chunkType": "text_delta", "blockIdx": 0, "delta": text, **members}}


def finish(reason: str = "success", **members: Any) -> dict[str, Any]:
    """
    A script's step that ends the turn in the eyes of everybody but the script.
    """
    return {"raw": {"chi": "finish", "finishReason": reason, **members}}


def tool(name: str = "look") -> dict[str, Any]:
    """
    A function, as a request declares it.
    """
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def asked(*steps: Any) -> dict[str, Any]:
    """
    The user's message whose model does these steps.
    """
    return {"role": "user", "content": "#script " + json.dumps(steps)}


def toneOf(line: bytes) -> dict[str, Any]:
    """
    A line of the daemon's, read.
    """
    tone: dict[str, Any] = json.loads(line)
    return tone


class FaultCase(SyncCase):
    """
    Asserts what a client sees.
    """

    def assertAnswered(self, client: Client, text: str) -> None:
        """
        A complete answer, whole or streamed, with just this text.
        """
        self.assertEqual(client.status, 200, client.wire.received[:500])
        self.assertTrue(client.isComplete)
        said = client.text if client.isStream else client.message["content"]
        self.assertEqual((said, client.finishReason), (text, "stop"))
        if client.isStream:
            self.assertEqual(client.events[-1], "[DONE]")

    def assertRefused(
        self,
        client: Client,
        status: int,
        code: str | None,
        *,
        retryAfter: str | None = None,
        mayRetry: bool = True,
    ) -> None:
        """
        An error with a status, and what it says about asking again.
        """
        self.assertEqual((client.status, client.isComplete), (status, True), client.wire.received[:500])
        self.assertEqual(client.header("content-type"), "application/json")
        self.assertEqual(client.error["code"], code)
        self.assertTrue(client.error["message"])
        self.assertEqual(client.header("retry-after"), retryAfter)
        self.assertEqual(client.header("x-should-retry"), None if mayRetry else "false")

    def assertCut(self, client: Client, code: str, text: str) -> None:
        """
        A stream that was begun, gave just this text, and does not look
        complete to anybody.
        """
        self.assertEqual((client.status, client.isStream), (200, True), client.wire.received[:500])
        self.assertEqual(client.text, text)
        self.assertEqual(client.failure and client.failure["code"], self.api.code(code))
        self.assertTrue(client.failure and client.failure["message"])
        self.assertIsNone(client.finishReason)
        self.assertFalse(client.looksComplete)
        if self.api.isCut:
            self.assertEqual((client.isComplete, client.wire.how), (False, "closed"))
        else:
            # It has said so itself, and another request may follow.
            self.assertEqual((client.isComplete, client.events[-1]), (True, "[DONE]"))
            self.assertIsNone(client.wire.how)

    def assertLost(self, world: World, code: str, *, status: int, end: str, seconds: float = 1.0) -> None:
        """
        What is being answered in this world, a stream that gave C{"half"} and
        a whole answer, ends within these seconds with this code.
        """
        world.advance(seconds)
        stream, whole = world.clients[-2:]
        self.assertCut(stream, code, "half")
        self.assertRefused(whole, status, code, mayRetry=False)
        self.assertEqual(world.ends[-2:], [end, end])

    def half(self, world: World, *steps: Any) -> None:
        """
        Ask for a stream and for a whole answer, both of which have said
        C{"half"} and then do these steps; without any they say nothing more.
        """
        then = steps or ({"silence": 1},)
        stream = world.script({"say": "half"}, *then, stream=True)
        world.script({"say": "half"}, *then)
        world.until(lambda: stream.text == "half")

    def kill(self, world: World) -> None:
        """
        Let the worker die, so that no turn is left.
        """
        world.daemon.killWorkers()
        world.advance(1)

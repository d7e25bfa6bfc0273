"""
The way of a request through the whole server, in memory.
"""

from __future__ import annotations

from typing import Any

from tests.support import SyncCase
from tests.world import World


class WholeWayTests(SyncCase):
    """
    A plain question.
    """

    def test_streamedAnswer(self) -> None:
        """
        Headers, role, text as it came, one finish, C{[DONE]}, a clean end.
        """
        world = World(self)
        client = world.ask("hello there", model="echo", stream=True)
        self.assertIsNone(client.status)
        world.advance(1)
        self.assertEqual(client.status, 200)
        self.assertEqual(client.text, "hello there")
        self.assertEqual(client.finishReason, "stop")
        self.assertEqual(client.events[-1], "[DONE]")
        self.assertTrue(client.isComplete)
        self.assertEqual(world.ends, ["ok"])
        world.settle()

    def test_wholeAnswer(self) -> None:
        """
        One object with text and usage.
        """
        world = World(self)
        client = world.ask("hello there", model="echo")
        world.advance(1)
        self.assertEqual(client.message, {"role": "assistant", "content": "hello there", "refusal": None})
        self.assertEqual(client.json["usage"]["total_tokens"], 102)
        self.assertEqual(client.header("x-hum-session"), "new")
        world.settle()


class KeepAliveTests(SyncCase):
    """
    What a silent stream sends (K13).
    """

    def silent(self, keepAlive: str) -> bytes:
        """
        All that a stream sends that says one word and is silent for 31 s.
        """
        world = World(self, keepAlive=keepAlive)
        client = world.script({"say": "one", "parts": 1}, {"sleep": 31}, stream=True)
        world.advance(40)
        self.assertTrue(client.isComplete)
        return client.content

    def test_emptyChunks(self) -> None:
        """
        One for every 15 s, behind the first text.
        """
        empty = b'"delta":{},"logprobs":null,"finish_reason":null'
        self.assertEqual(self.silent("chunk").count(empty), 2)

    def test_comments(self) -> None:
        """
        For clients that must not see empty chunks.
        """
        content = self.silent("comment")
        self.assertEqual(content.count(b": keep-alive\n\n"), 2)
        self.assertNotIn(b'"delta":{},"logprobs":null,"finish_reason":null', content)

    def test_off(self) -> None:
        """
        Nothing between the text and the end.
        """
        content = self.silent("off")
        self.assertNotIn(b"keep-alive", content)
        self.assertNotIn(b'"delta":{},"logprobs":null,"finish_reason":null', content)


class RepairTests(SyncCase):
    """
    Answers that were to follow a JSON Schema and do not.
    """

    WANTED: dict[str, Any] = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "required": ["a"]}},
    }

    def test_failedRepairLeavesTheFirstAnswer(self) -> None:
        """
        It is better than none, and the header says what it is.
        """
        world = World(self)
        client = world.script({"say": "no JSON", "parts": 1}, response_format=self.WANTED)
        world.until(lambda: len(world.sent("prompt")) == 2)
        world.daemon.killWorkers()
        world.advance(2)
        self.assertEqual((client.status, client.message["content"]), (200, "no JSON"))
        self.assertEqual(client.header("x-hum-schema"), "invalid")
        world.settle()

    def test_repairSwitchedOff(self) -> None:
        """
        C{schemaRepair: false}: the model is asked once.
        """
        world = World(self, schemaRepair=False)
        client = world.script({"say": "no JSON", "parts": 1}, response_format=self.WANTED)
        world.advance(2)
        self.assertEqual((client.status, client.message["content"]), (200, "no JSON"))
        self.assertEqual(client.header("x-hum-schema"), "invalid")
        self.assertEqual(len(world.sent("prompt")), 1)
        world.settle()

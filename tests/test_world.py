"""
The way of a request through the whole server, in memory.
"""

from __future__ import annotations

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

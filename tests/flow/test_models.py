"""
Which model a request gets that does not name it where it usually stands.
"""

from __future__ import annotations

from typing import Any

from tests.flow.support import FlowCase
from tests.machinery.models import TEST_MODELS
from tests.world import World

BODY: Any = {"messages": [{"role": "user", "content": "hello there"}]}


class UnnamedTests(FlowCase):
    """
    A body without C{model}.
    """

    def answered(self, world: World, body: Any = BODY, path: str = "/v1/chat/completions") -> Any:
        """
        Post a body, and return what the answer says of its model and the words.
        """
        client = world.client().post(body, path=path)
        world.advance(1)
        return client.json["model"], client.message["content"]

    def test_theOnlyOne(self) -> None:
        """
        Where the server has just one, that is asked.
        """
        world = World(self, daemonSettings={"models": {"echo": TEST_MODELS["echo"]}})
        for model in ({}, {"model": None}, {"model": ""}):
            self.assertEqual(self.answered(world, {**BODY, **model}), ("echo", "hello there"))
        self.assertEqual([prompt["modelId"] for prompt in world.sent("prompt")], ["echo"] * 3)
        world.settle()

    def test_oneOfSeveral(self) -> None:
        """
        Where there are more, nobody guesses; a setting may say which.
        """
        world = World(self)
        client = world.client().post(BODY)
        world.advance(1)
        self.assertRefused(client, 400, "missing_required_parameter")
        self.assertEqual(client.error["param"], "model")
        world.settle()
        world = World(self, defaultModel="echo")
        self.assertEqual(self.answered(world), ("echo", "hello there"))
        world.settle()

    def test_inThePath(self) -> None:
        """
        As Azure's clients name it; what the body says does not count.
        """
        world = World(self)
        path = "/openai/deployments/echo/chat/completions?api-version=2024-10-21"
        for model in ({}, {"model": "no-such-model"}):
            self.assertEqual(self.answered(world, {**BODY, **model}, path), ("echo", "hello there"))
        world.settle()

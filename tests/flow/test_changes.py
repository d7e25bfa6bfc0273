"""
Settings that change while the server runs.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tests.flow.support import FlowCase, Talk, function, steps
from tests.world import Client, World

#: A turn of some seconds.
SLOW = ({"say": "Slow."}, {"sleep": 3})


class ChangeTests(FlowCase):
    """
    L{WebFront.change<openai_server.web.front.WebFront.change>} and
    L{Link.change<openai_server.daemon.link.Link.change>}.
    """

    def change(self, world: World, **settings: Any) -> None:
        """
        Let other settings hold from now on.
        """
        world.front.change(replace(world.configuration, **settings))
        world.flush()

    def running(self, world: World) -> int:
        """
        How many prompts the daemon was sent.
        """
        return len(world.sent("prompt"))

    def test_moreTurns(self) -> None:
        """
        Whoever waits is let on at once.
        """
        world = World(self, maxTurns=1)
        clients = [world.script(*SLOW) for _ in range(4)]
        self.assertEqual(self.running(world), 1)
        self.change(world, maxTurns=3)
        self.assertEqual(self.running(world), 3)
        self.change(world, maxTurns=0)
        self.assertEqual(self.running(world), 4)
        world.advance(5)
        for client in clients:
            self.assertSaid(client, "Slow.")
        world.settle()

    def test_fewerTurns(self) -> None:
        """
        Those that run go on, and nothing begins until there is room.
        """
        world = World(self, maxTurns=3)
        for _ in range(3):
            world.script({"sleep": 2})
        self.change(world, maxTurns=1)
        waiting = world.script({"say": "Late."})
        world.advance(1)
        self.assertEqual(self.running(world), 3)
        world.advance(5)
        self.assertSaid(waiting, "Late.")
        world.settle()

    def test_line(self) -> None:
        """
        Its length and its time: a wait that has begun lasts as long as it was to.
        """
        world = World(self, maxTurns=1, queueTimeout=6)
        world.script({"sleep": 20})
        first = world.script({"say": "x"})
        self.change(world, maxTurns=1, queueTimeout=2, queueLength=2)
        second = world.script({"say": "x"})
        self.assertRefused(world.script({"say": "x"}), 429, "server_is_overloaded")
        world.advance(3)
        self.assertIsNone(first.status)
        self.assertRefused(second, 429, "server_is_overloaded")
        world.advance(4)
        self.assertRefused(first, 429, "server_is_overloaded")
        world.advance(20)
        world.settle()

    def test_stoppedWhileALineIsOld(self) -> None:
        """
        A stop ends the waits of before, too.
        """
        world = World(self, maxTurns=1, queueTimeout=60)
        world.script({"sleep": 20})
        waiting = world.script({"say": "x"})
        self.change(world, maxTurns=1, queueTimeout=50)
        world.front.submitter.stop()
        world.advance(0.1)
        self.assertRefused(waiting, 503, "shutting_down")
        world.stop()

    def test_models(self) -> None:
        """
        Those that are listed, and the one that is asked when none is named.
        """
        world = World(self, models=["one"])
        self.change(world, models=("two",), defaultModel="echo")
        self.assertEqual(world.front.models.ids()[0], "two")
        self.assertNotIn("one", world.front.models.ids())
        for client in (
            self.unnamed(world, "/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}]),
            self.unnamed(world, "/v1/responses", input="Hi"),
            self.unnamed(world, "/v1/completions", prompt="Hi"),
        ):
            self.assertEqual((client.status, client.json["model"]), (200, "echo"))
        world.settle()

    def unnamed(self, world: World, path: str, **body: Any) -> Client:
        """
        Ask without naming a model.
        """
        client = world.client().post(body, path)
        world.advance(1)
        return client

    def test_park(self) -> None:
        """
        Turns that are asked from now on wait for results for another time.
        """
        world = World(self, parkTimeout=50)
        self.change(world, parkTimeout=5)
        talk = Talk(world, tools=[function()])
        talk.ask(steps({"tool": "look", "args": {}}))
        world.advance(7)
        self.assertEqual(world.link.turnCount, 0)
        world.settle()

    def test_silence(self) -> None:
        """
        What is waited for next is waited for as long as is said now.
        """
        world = World(self)
        client = world.script({"say": "x"}, {"sleep": 5}, {"say": "y"}, {"sleep": 60}, stream=True)
        world.advance(3)
        world.link.change(10, 2, 3600)
        world.script({"say": "x"}, {"sleep": 60}, stream=True)
        world.advance(4)
        self.assertEqual(world.ends, ["up-stall"])
        self.assertFalse(client.isComplete)
        client.leave()
        world.advance(70)
        world.settle()

"""
What becomes of a worker's own tools when a client brings some.
"""

from __future__ import annotations

from typing import Any

from openai_server.sessions.owntools import BUILT_IN
from tests.flow.support import FlowCase, Talk, function, image, steps, user
from tests.world import World


class OwnToolsTests(FlowCase):
    """
    What prompts disallow.
    """

    def disallowed(self, world: World) -> list[list[str]]:
        """
        What each prompt has disallowed, names of clients' tools left out.
        """
        said = [tone.get("disallowedTools", ()) for tone in world.sent("prompt")]
        return [[name for name in names if not name.startswith("mcp__hum__")] for names in said]

    def test_clientsTools(self) -> None:
        """
        A request that brings tools takes the worker's own away, called or not;
        one without leaves them.
        """
        world = World(self)
        Talk(world).ask(user("hello"))
        Talk(world, tools=[function()]).ask(user("hello"))
        Talk(world, tools=[function()], tool_choice="none").ask(user("hello"))
        self.assertEqual(self.disallowed(world), [[], list(BUILT_IN), list(BUILT_IN)])
        world.settle()

    def test_settings(self) -> None:
        """
        They say it for all requests; what they allow and disallow counts.
        """
        for settings, expected in (
            ({"ownTools": "always"}, [[], []]),
            ({"ownTools": "never"}, [list(BUILT_IN)] * 2),
            ({"ownTools": "always", "disallowedTools": ("Write",)}, [["Write"]] * 2),
            ({"allowedTools": BUILT_IN[1:]}, [[], [BUILT_IN[0]]]),
        ):
            world = World(self, **settings)  # type: ignore[arg-type]
            Talk(world).ask(user("hello"))
            Talk(world, tools=[function()]).ask(user("hello"))
            self.assertEqual(self.disallowed(world), expected, settings)
            world.settle()

    def test_whatWorkersName(self) -> None:
        """
        Tools that a process has named are taken away from the next one.
        """
        world = World(self, daemonSettings={"ownTools": ("Bash", "mcp__files__read", "Novelty")})
        talk = Talk(world, tools=[function()])
        self.assertSaid(talk.ask(user("hello")), "hello")
        talk.ask(user("and on"))
        first, second = self.disallowed(world)
        self.assertEqual(second, [*first, "mcp__files__read", "Novelty"])
        world.settle()

    def test_files(self) -> None:
        """
        With an image comes what can open it: in a fresh process, as a warm one
        keeps what it was given.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(user("hello"))
        seen = talk.ask(user([{"type": "text", "text": "x"}, image()]))
        self.assertEqual(seen.header("x-hum-session"), "forked; why=tools")
        self.assertSaid(talk.ask(user("and on")), "and on", "continued")
        left = [set(BUILT_IN) - set(names) for names in self.disallowed(world)]
        self.assertEqual(left, [set(), {"Read"}, {"Read"}])
        world.settle()

    def test_filesOfALoneMessage(self) -> None:
        """
        It goes on in the session that it names, with an image or without, but
        not in one whose process has other tools of its own.
        """
        world = World(self)
        said: list[Any] = [user("hello"), user([{"type": "text", "text": "x"}, image()]), user("and on")]
        for message in said:
            Talk(world, {"x-hum-session": "mine"}, tools=[function()], tool_choice="none").ask(message)
        self.assertEqual(len(set(self.sids(world))), 1)
        Talk(world, {"x-hum-session": "mine"}).ask(user("and on"))
        self.assertEqual(len(set(self.sids(world))), 2)
        world.settle()

    def test_filesFromTheBeginning(self) -> None:
        """
        A conversation that begins with an image goes on, whether its client
        says whose it is or not.
        """
        for user_ in (None, "ada"):
            world = World(self)
            talk = Talk(world, tools=[function()], user=user_)
            talk.ask(user([{"type": "text", "text": "x"}, image()]))
            self.assertSaid(talk.ask(user("and on")), "and on", "continued")
            world.settle()

    def test_otherToolsAreLeftInAnotherSession(self) -> None:
        """
        A request without tools does not go on where they were taken away.
        """
        world = World(self)
        talk = Talk(world, tools=[function()], tool_choice="none")
        talk.ask(steps({"say": "One."}))
        self.assertSaid(talk.ask(steps({"say": "Two."}), tools=None, tool_choice=None), "Two.", "forked")
        world.settle()

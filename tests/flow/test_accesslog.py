"""
What the flow of a request adds to its line in the access log.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.log import lineFromEvent
from tests.flow.support import FlowCase, Talk, user
from tests.world import World


def accesses(world: World) -> list[dict[str, Any]]:
    """
    The access lines so far, as they are written.
    """
    events = [event for event in world.logged if "end" in event and "requestId" in event]
    return [json.loads(lineFromEvent(event)) for event in events]


class AccessLogTests(FlowCase):
    """
    One line a request.
    """

    def test_session(self) -> None:
        """
        I1: it says what the header C{x-hum-session} says; a request that got
        no session says nothing.
        """
        world = World(self)
        talk = Talk(world, model="echo")
        answers = [talk.ask(user("one")), talk.ask(user("two"))]
        talk.messages[0] = user("another")
        answers.append(talk.ask(user("three")))
        said = [answer.header("x-hum-session") for answer in answers]
        self.assertEqual(said, ["new", "continued", "new"])
        system = {"role": "system", "content": "It is 12:00:01."}
        talk.messages.insert(0, system)
        said.append(talk.ask(user("four")).header("x-hum-session"))
        self.assertEqual(said[3], "forked; why=system")
        self.assertEqual([access["session"] for access in accesses(world)], said)
        world.ask([], model="echo")
        world.advance(0)
        self.assertNotIn("session", accesses(world)[-1])

    def test_retry(self) -> None:
        """
        How often an SDK has sent the request before, when it has.
        """
        world = World(self)
        for count in ("0", "2"):
            talk = Talk(world, {"x-stainless-retry-count": count}, model="echo")
            talk.ask(user(f"question {count}"))
        first, second = accesses(world)
        self.assertNotIn("retry", first)
        self.assertEqual(second["retry"], 2)

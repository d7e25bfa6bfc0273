"""
What outlasts a restart of the server: parked turns, warm sessions, hints.

The server stops in good order, or its process dies where it stands; another
one is started over the same database and the same daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openai_server.embedded.content import givenResults
from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from openai_server.sessions.conversation import LATE_RESULT
from tests.flow.support import FlowCase, Talk, function, user
from tests.machinery.models import TEST_MODELS
from tests.machinery.steps import Call, CallTools, Say, Words
from tests.world import Client, Machine, World

BOTH = [function("look"), function("smell")]


def calling(question: ModelPrompt) -> Sequence[Step]:
    """
    A model that calls two tools and ends its turn with their results; it says
    those that a prompt ends with, and to other transcripts that it was read.
    """
    results = givenResults(question.content)
    if results:
        return [Words("; ".join(f"{name}: {said}" for name, said in results))]
    if "assistant" in question.content:
        return [Say("I have read it.")]
    calls = [Call(name, {"chi": "tool-call", "name": name, "args": {}}) for name in ("look", "smell")]
    return [CallTools(calls)]


class RestartCase(FlowCase):
    """
    One machine on which servers come and go.
    """

    def setUp(self) -> None:
        super().setUp()
        self.machine = Machine(self, {"models": {**TEST_MODELS, "calling": calling}})
        self.url = f"sqlite:///{Path(self.mktemp()).absolute()}/store.db"

    def world(self, **settings: Any) -> World:
        """
        A server that is started now.
        """
        return World(self, machine=self.machine, store=self.url, **settings)

    def parked(self, **settings: Any) -> tuple[World, Talk]:
        """
        A client whose model waits for two results.
        """
        world = self.world(**settings)
        talk = Talk(world, model="calling", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        return world, talk

    def restarted(self, world: World, talk: Talk | None = None, *, isKilled: bool, **settings: Any) -> World:
        """
        The server behind this one, to which the client talks from now on.
        """
        world.kill() if isKilled else world.stop()
        following = self.world(**settings)
        if talk is not None:
            talk.world = following
        return following

    def prompts(self) -> list[dict[str, Any]]:
        """
        All prompts that the daemon was sent, by whatever server.
        """
        return self.machine.recorder.sent("prompt")

    def assertExpired(self, client: Client) -> None:
        """
        The client is told what to do, and not to ask the same again.
        """
        self.assertRefused(client, 409, "call_expired")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertIn("Send all of it", client.error["message"])


class ParkedTurnTests(RestartCase):
    """
    Results that come when their turn was asked by an earlier process.
    """

    def test_resultsGoOnWithTheTurn(self) -> None:
        """
        On the same worker process: nothing is prompted, and each call is
        answered once.
        """
        for isKilled in (False, True):
            before = len(self.prompts())
            world, talk = self.parked()
            world = self.restarted(world, talk, isKilled=isKilled)
            self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
            self.assertEqual(len(self.prompts()) - before, 1)
            self.assertResults(world, *[("grey", False), ("fishy", False)] * (1 + isKilled))
            self.assertEqual(self.machine.recorder.sent("cancel"), [])
            world.settle()
            world.stop()

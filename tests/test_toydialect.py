"""
A dialect of its own, in few lines, through the whole server: plain text in,
plain text out. The model stands in the first line of a body, and C{stream} or a
tool's name may stand behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openai_server.api.inquiry import Call, Inquiry, Message, Tool
from openai_server.api.output import Failed, Output, Text, ToolCalls
from openai_server.errors import APIError
from tests.flow.support import FlowCase
from tests.world import Client, World


class ToyRenderer:
    """
    Says what is said, and nothing else.
    """

    streamType = bodyType = b"text/plain"
    errorIsEnd = False

    def start(self) -> bytes:
        return b"> "

    def feed(self, events: Sequence[Output]) -> bytes:
        return b"".join(map(self.shown, events))

    def shown(self, event: Output) -> bytes:
        if isinstance(event, Text):
            return "".join(event.pieces).encode()
        if isinstance(event, ToolCalls):
            return b"".join(f"{call.name}? {call.id}".encode() for call in event.calls)
        return self.error(event.error) if isinstance(event, Failed) else b""

    def keepAlive(self) -> bytes:
        return b""

    def error(self, error: APIError) -> bytes:
        return f" ! {error.name}".encode()

    def body(self, events: Sequence[Output]) -> bytes:
        return self.feed(events)


class ToyDialect:
    """
    Reads a model, its tools and one message; or what a tool said: its call's
    id and the result.
    """

    name = "toy"

    def parse(self, body: bytes, model: str | None = None) -> Inquiry:
        head, _, said = body.decode().partition("\n")
        named, *words = head.split() or [""]
        model = model or named
        if not model:
            raise APIError("missing_required_parameter", "No model.", param="model")
        tools = [Tool(kind="function", name=word) for word in words if word.islower() and "_" not in word]
        message = Message("user", said)
        history = [Message("assistant", calls=(Call(w, "look", "{}"),)) for w in words if "_" in w]
        if history:
            message = Message("tool", said, callId=history[0].calls[0].id)
        return Inquiry(
            model=model, messages=(*history, message), tools=tuple(tools), isStreamed="STREAM" in words
        )

    def keeping(self, inquiry: Inquiry) -> None:
        pass

    def renderer(self, inquiry: Inquiry) -> ToyRenderer:
        return ToyRenderer()


class ToyTests(FlowCase):
    """
    The toy through the whole server.
    """

    def newWorld(self, **settings: Any) -> World:
        """
        A server that speaks it.
        """
        return World(self, dialects={"/v1/toy": ToyDialect()}, **settings)

    def ask(
        self, world: World, head: str, *steps: Mapping[str, Any], said: str = "", **headers: str
    ) -> Client:
        """
        Post a body whose model does these steps.
        """
        words = said or "#script " + json.dumps(steps)
        client = world.client().post(f"{head}\n{words}".encode(), path="/v1/toy", **headers)
        client.wire.read()
        return client

    def test_answers(self) -> None:
        """
        Streamed and whole.
        """
        for head, text in (("script", b"some text"), ("script STREAM", b"> some text")):
            world = self.newWorld()
            client = self.ask(world, head, {"say": "some text"})
            world.advance(1)
            self.assertEqual((client.status, client.content, client.isComplete), (200, text, True))
            self.assertEqual(client.header("content-type"), "text/plain")
            world.settle()

    def test_toolCall(self) -> None:
        """
        The call is shown, and its result goes into the turn that waits.
        """
        world = self.newWorld()
        step = {"tool": "look", "args": {}, "saying": "seen {result}"}
        client = self.ask(world, "script STREAM look", step)
        world.advance(2)
        name, callId = client.content.decode().split("? ")
        self.assertEqual(name, "> look")
        client = self.ask(world, f"script {callId} look", said="a tree")
        world.advance(2)
        self.assertEqual((client.content, len(world.sent("prompt"))), (b"seen a tree", 1))
        self.assertResults(world, ("a tree", False))
        world.settle()

    def test_errors(self) -> None:
        """
        Before the first byte a status; after it in the stream's own words,
        which is cut.
        """
        world = self.newWorld()
        self.assertRefused(self.ask(world, ""), 400, "missing_required_parameter")
        early = self.ask(world, "script STREAM", {"result_error": {"message": "no"}})
        late = self.ask(world, "script STREAM", {"say": "some"}, {"result_error": {"message": "no"}})
        world.advance(1)
        self.assertRefused(early, 502, "worker_error")
        sent = late.wire.received.partition(b"\r\n\r\n")[2]
        self.assertEqual(sent, b"6\r\n> some\r\nf\r\n ! worker_error\r\n")
        self.assertFalse(late.isComplete)
        world.settle()

    def test_clientThatLeaves(self) -> None:
        """
        Its turn is cancelled.
        """
        world = self.newWorld()
        client = self.ask(world, "script STREAM", {"say": "some"}, {"sleep": 5}, {"say": "more"})
        world.advance(1)
        client.leave()
        world.advance(1)
        self.assertEqual((world.ends, len(world.sent("cancel"))), (["cl-gone"], 1))
        world.advance(10)
        world.settle()

    def test_retry(self) -> None:
        """
        The same request again is given what runs already.
        """
        world = self.newWorld()
        steps = ({"sleep": 3}, {"say": "once"})
        first = self.ask(world, "script", *steps, x_stainless_retry_count="0")
        world.advance(1)
        first.leave()
        again = self.ask(world, "script", *steps, x_stainless_retry_count="1")
        world.advance(5)
        self.assertEqual((again.content, len(world.sent("prompt"))), (b"once", 1))
        world.settle()

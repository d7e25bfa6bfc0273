"""
Clients as there are: one that keeps its transcript and answers calls, and what
such a client and the daemon's end of the wire can be asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openai_server.accounts.account import NO_LIMITS, Account, AccountLimits
from openai_server.web.admission import Admission
from tests.support import SyncCase
from tests.world import Client, World

Message = dict[str, Any]


def function(name: str = "look", **properties: Any) -> dict[str, Any]:
    """
    A function, as a request declares it.
    """
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def user(content: Any) -> Message:
    """
    A user's message.
    """
    return {"role": "user", "content": content}


def steps(*played: Mapping[str, Any]) -> Message:
    """
    A user's message whose model does these steps.
    """
    return user("#script " + json.dumps(played))


def result(callId: str, content: Any) -> Message:
    """
    The message that answers a call.
    """
    return {"role": "tool", "tool_call_id": callId, "content": content}


def image() -> dict[str, Any]:
    """
    A part of a user's message that no result of a call can carry.
    """
    pixel = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    return {"type": "image_url", "image_url": {"url": "data:image/gif;base64," + pixel}}


class Talk:
    """
    A client that keeps its transcript, as those of OpenAI's API do.

    @ivar messages: the transcript, answers included.
    @ivar fields: what each request says besides.
    """

    def __init__(self, world: World, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        self.world = world
        self.headers = headers or {}
        self.fields = fields
        self.messages: list[Message] = []
        self.last: Client | None = None

    def post(self, *messages: Message, headers: Mapping[str, str] | None = None, **fields: Any) -> Client:
        """
        Ask with these messages at the end of the transcript, and do not wait.
        """
        self.messages += messages
        said = {**self.headers, **(headers or {})}
        self.last = self.world.ask(self.messages, headers=said, **{**self.fields, **fields})
        return self.last

    def ask(self, *messages: Message, headers: Mapping[str, str] | None = None, **fields: Any) -> Client:
        """
        Ask, and put the answer into the transcript.
        """
        client = self.post(*messages, headers=headers, **fields)
        self.world.until(lambda: client.isComplete)
        return self.heard(client)

    def heard(self, client: Client) -> Client:
        """
        Put the answer, when it is one, into the transcript.
        """
        if client.status == 200:
            self.messages.append(messageFrom(client))
        return client

    def results(self, *texts: Any, **fields: Any) -> Client:
        """
        Answer the calls of the last answer with these results, in order.
        """
        return self.ask(*self.resultsOf(*texts), **fields)

    def resultsOf(self, *texts: Any) -> list[Message]:
        """
        The messages that answer the calls of the last answer.
        """
        return [result(call["id"], text) for call, text in zip(self.calls, texts, strict=True)]

    @property
    def calls(self) -> Sequence[dict[str, Any]]:
        """
        The calls of the last answer in the transcript.
        """
        said = next(message for message in reversed(self.messages) if message["role"] == "assistant")
        calls: list[dict[str, Any]] = said.get("tool_calls", [])
        return calls


def messageFrom(client: Client) -> Message:
    """
    An answer as its client sends it back.
    """
    if not client.isStream:
        return {name: value for name, value in client.message.items() if value is not None}
    said: Message = {"role": "assistant", "content": client.text}
    if client.calls:
        said["tool_calls"] = [{"type": "function", **call} for call in client.calls]
    return said


class FlowCase(SyncCase):
    """
    Asserts what a client sees and what the daemon is sent.
    """

    def assertSaid(self, client: Client, text: str, session: str | None = None) -> None:
        """
        A complete answer with just this text.

        @param session: what its session is to the client; with the reason
            where one is given here.
        """
        self.assertEqual((client.status, client.isComplete), (200, True), client.wire.received[:1000])
        answer = client.text if client.isStream else client.message["content"]
        self.assertEqual((answer, client.finishReason), (text, "stop"))
        if session is not None:
            said = client.header("x-hum-session") or ""
            self.assertEqual(said if ";" in session else said.partition(";")[0], session)

    def assertCalls(self, client: Client, *names: str) -> None:
        """
        A complete answer that ends with calls of these tools.
        """
        self.assertEqual((client.status, client.isComplete), (200, True), client.wire.received[:1000])
        self.assertEqual(client.finishReason, "tool_calls")
        self.assertEqual([call["function"]["name"] for call in client.calls], list(names))

    def assertRefused(self, client: Client, status: int, code: str | None) -> None:
        """
        An error with a status.
        """
        self.assertEqual((client.status, client.isComplete), (status, True), client.wire.received[:1000])
        self.assertEqual(client.error["code"], code)

    def assertResults(self, world: World, *results: tuple[str, bool]) -> None:
        """
        The daemon was sent just these results of calls: text, and whether it
        is an error.
        """
        sent = [(tone["output"], tone["isError"]) for tone in world.sent("tool-result")]
        self.assertEqual(sent, list(results))

    def sids(self, world: World) -> list[str]:
        """
        The sid of each prompt, in order.
        """
        return [tone["sid"] for tone in world.sent("prompt")]

    def contents(self, world: World) -> list[str]:
        """
        The content of each prompt, in order.
        """
        return [tone["content"] for tone in world.sent("prompt")]

    def withAccounts(self, limits: AccountLimits = NO_LIMITS) -> None:
        """
        Let the header C{x-account} stand for an API key.

        @param limits: of each account.
        """

        def admit(admission: Admission, request: Any) -> Account:
            name = (request.getHeader(b"x-account") or b"nobody").decode()
            return Account(name, name, limits=limits)

        self.patch(Admission, "admit", admit)

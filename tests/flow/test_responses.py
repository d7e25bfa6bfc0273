"""
The Responses API through the whole server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openai_server.config import Configuration
from tests.api.responses.grammar import Grammar, checkResponse, eventsFrom
from tests.flow.support import FlowCase
from tests.world import Client, World

Item = dict[str, Any]

PATH = "/v1/responses"
LOOK: Item = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
PATCH: Item = {"type": "custom", "name": "patch"}


def says(content: Any) -> Item:
    """
    A message of the user's.
    """
    return {"role": "user", "content": content}


def plays(*steps: Mapping[str, Any]) -> Item:
    """
    A message whose model does these steps.
    """
    return says("#script " + json.dumps(steps))


def result(call: Item, output: Any) -> Item:
    """
    What a call came to.
    """
    return {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": output}


def responseOf(client: Client) -> Any:
    """
    The response that a client was given, checked.
    """
    assert (client.status, client.isComplete) == (200, True), client.wire.received[:1000]
    if client.isStream:
        return Grammar().check(eventsFrom(client.content))
    checkResponse(client.json)
    return client.json


def textOf(client: Client) -> str:
    """
    The text of a response.
    """
    items = [item for item in responseOf(client)["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in items for part in item["content"])


class ResponsesCase(FlowCase):
    """
    Asks for responses.
    """

    def post(
        self, world: World, *items: Item, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> Client:
        """
        Ask, and do not wait.
        """
        body = {"model": "script", "input": list(items), **fields}
        client = world.client().post(body, PATH, **(headers or {}))
        client.wire.read()
        return client

    def ask(self, world: World, *items: Item, **fields: Any) -> Client:
        """
        Ask, and wait for the answer.
        """
        client = self.post(world, *items, **fields)
        world.until(lambda: client.isComplete)
        return client

    def callsOf(self, client: Client) -> Sequence[Item]:
        """
        The calls that a response ends with.
        """
        return [item for item in responseOf(client)["output"] if "call_id" in item]


class AnswerTests(ResponsesCase):
    """
    What is said.
    """

    def test_streamedAndWhole(self) -> None:
        """
        The same, but for ids and times.
        """
        world = World(self, workerTools=True)
        executed = {"chi": "chunk", "chunkType": "tool_executed", "callId": "w", "toolName": "mcp__a__b"}
        steps = plays(
            {"think": "hm"},
            {"say": "some "},
            {"raw": {**executed, "arguments": {"x": 1}, "output": "found"}},
            {"say": "text"},
        )
        outputs = []
        for isStreamed in (True, False):
            client = self.ask(world, steps, stream=isStreamed, reasoning={"summary": "auto"})
            response = responseOf(client)
            self.assertEqual((client.isStream, textOf(client)), (isStreamed, "some text"))
            self.assertEqual(response["usage"]["total_tokens"], 102)
            self.assertEqual(client.header("x-hum-session"), "new")
            outputs.append([{**item, "id": ""} for item in response["output"]])
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(
            [item["type"] for item in outputs[0]], ["reasoning", "message", "mcp_call", "message"]
        )
        self.assertEqual((outputs[0][2]["arguments"], outputs[0][2]["output"]), ('{"x":1}', "found"))
        world.settle()

    def test_whatTheModelIsTold(self) -> None:
        """
        Instructions, messages, images and wishes arrive as those of chat do.
        """
        world = World(self)
        pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
        image = {"type": "input_image", "image_url": pixel}
        client = self.ask(
            world,
            {"role": "developer", "content": "And kind."},
            says([{"type": "input_text", "text": "look"}, image]),
            model="echo",
            instructions="Be brief.",
            max_output_tokens=50,
            tools=[{"type": "web_search"}],
        )
        self.assertEqual(client.status, 200)
        (prompt,) = world.sent("prompt")
        self.assertEqual(prompt["systemPrompt"], "Be brief.\n\nAnd kind.")
        self.assertEqual((len(prompt["attachments"]), prompt["sampling"]), (1, {"maxTokens": 50}))
        self.assertNotIn("tools", prompt)
        self.assertEqual(client.header("x-hum-ignored"), "tools.web_search")
        world.settle()

    def test_schema(self) -> None:
        """
        The answer is checked, and asked for once more, as in chat.
        """
        world = World(self)
        schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
        wanted = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
        client = self.ask(world, plays({"say": '```json\n{"a":1}\n```'}), text=wanted)
        self.assertEqual((textOf(client), client.header("x-hum-schema")), ('{"a":1}', "valid"))
        client = self.ask(world, plays({"say": "no"}), text=wanted)
        self.assertEqual((client.header("x-hum-schema"), len(world.sent("prompt"))), ("invalid", 3))
        world.settle()

    def test_sessionGoesOn(self) -> None:
        """
        A client that shows its whole history stays in its session, whatever
        it says about it; its items come back as they were given.
        """
        world = World(self)
        history = [says("one")]
        first = self.ask(world, *history, model="echo", prompt_cache_key="k", instructions="Be brief.")
        history += responseOf(first)["output"] + [says("two")]
        again = self.ask(world, *history, model="echo", prompt_cache_key="x", instructions="Be brief.")
        self.assertEqual(again.header("x-hum-session"), "continued")
        self.assertEqual((textOf(again), len(set(self.sids(world)))), ("two", 1))
        self.assertEqual(self.contents(world)[1], "two")
        other = self.ask(world, *history, model="echo", instructions="Name this talk.")
        self.assertEqual((other.header("x-hum-session") or "").partition(";")[0], "forked")
        world.settle()

    def test_incomplete(self) -> None:
        """
        As the worker says it.
        """
        world = World(self)
        client = self.ask(
            world, plays({"say": "so"}, {"finish": {"finishReason": "max_tokens"}}), stream=True
        )
        response = responseOf(client)
        self.assertEqual(response["incomplete_details"], {"reason": "max_output_tokens"})
        refused = {"result_error": "Claude is unable to respond to this request, which appears to violate"}
        for isStreamed in (True, False):
            response = responseOf(self.ask(world, plays(refused), stream=isStreamed))
            self.assertEqual(response["incomplete_details"], {"reason": "content_filter"})
            self.assertEqual(response["output"][0]["content"][0]["type"], "refusal")
        world.settle()

    def test_probe(self) -> None:
        """
        An agent's question whether anybody is there is answered at once, and
        no model is asked.
        """
        world = World(self)
        for isStreamed in (False, True):
            client = self.post(world, max_output_tokens=1, stream=isStreamed, store=False)
            response = responseOf(client)
            self.assertEqual((response["status"], response["max_output_tokens"]), ("completed", 1))
        self.assertEqual((world.sent("prompt"), world.ends), ([], ["ok", "ok"]))
        world.settle()

    def test_refusedRequests(self) -> None:
        """
        They have a status.
        """
        world = World(self)
        self.assertRefused(self.post(world, says(None)), 400, "missing_required_parameter")
        gone = self.post(world, says("x"), previous_response_id="resp_1")
        self.assertRefused(gone, 400, "previous_response_not_found")
        unknown = self.post(world, says("x"), model="nobody")
        world.advance(12)
        self.assertRefused(unknown, 404, "model_not_found")
        world.settle()


class ToolTests(ResponsesCase):
    """
    Calls that wait for their results.
    """

    def test_parkedTurn(self) -> None:
        """
        The result comes with the whole input, and the turn goes on.
        """
        for isStreamed in (True, False):
            world = World(self)
            said = [plays({"say": "see"}, {"tool": "look", "args": {"a": 1}, "saying": "seen {result}"})]
            client = self.ask(world, *said, tools=[LOOK], stream=isStreamed)
            (call,) = self.callsOf(client)
            self.assertEqual((call["name"], json.loads(call["arguments"])), ("look", {"a": 1}))
            self.assertEqual(responseOf(client)["status"], "completed")
            said += [*responseOf(client)["output"], result(call, "a tree")]
            client = self.ask(world, *said, tools=[LOOK], stream=isStreamed)
            self.assertEqual((textOf(client), len(world.sent("prompt"))), ("seen a tree", 1))
            self.assertResults(world, ("a tree", False))
            said += [*responseOf(client)["output"], says("#script []")]
            client = self.ask(world, *said, tools=[LOOK], stream=isStreamed)
            self.assertEqual(client.header("x-hum-session"), "continued")
            world.settle()

    def test_customTool(self) -> None:
        """
        Its input is text, and so is what it came to.
        """
        world = World(self)
        said = [plays({"tool": "patch", "args": {"input": "*** Begin"}, "saying": "seen {result}"})]
        client = self.ask(world, *said, tools=[PATCH, {"type": "namespace", "name": "x", "tools": []}])
        (call,) = self.callsOf(client)
        self.assertEqual((call["type"], call["input"]), ("custom_tool_call", "*** Begin"))
        said += [call, result(call, [{"type": "input_text", "text": "done"}])]
        self.assertEqual(textOf(self.ask(world, *said, tools=[PATCH])), "seen done")
        world.settle()

    def test_severalCalls(self) -> None:
        """
        All of an answer's; one at a time where that is asked for.
        """
        two = {"tools": [{"tool": "look", "args": {"n": n}} for n in (1, 2)], "saying": "done"}
        for isParallel, count in ((True, 2), (False, 1)):
            world = World(self)
            said = [plays(two)]
            client = self.ask(world, *said, tools=[LOOK], parallel_tool_calls=isParallel, stream=True)
            calls = self.callsOf(client)
            self.assertEqual(len(calls), count)
            while calls:
                said += [*calls, *[result(call, "x") for call in calls]]
                client = self.ask(world, *said, tools=[LOOK], parallel_tool_calls=isParallel, stream=True)
                calls = self.callsOf(client)
            self.assertEqual(textOf(client), "donedone")
            self.assertEqual((len(world.sent("prompt")), len(world.sent("tool-result"))), (1, 2))
            world.settle()

    def test_onlySomeResults(self) -> None:
        """
        An error that names the input; the turn waits on.
        """
        world = World(self)
        two = {"tools": [{"tool": "look", "args": {"n": n}} for n in (1, 2)], "saying": "done"}
        said = [plays(two)]
        calls = self.callsOf(self.ask(world, *said, tools=[LOOK]))
        said += calls
        client = self.post(world, *said, result(calls[0], "x"), tools=[LOOK])
        self.assertRefused(client, 400, "invalid_value")
        self.assertEqual(client.error["param"], "input")
        self.assertIn(calls[1]["call_id"], client.error["message"])
        said += [result(call, "x") for call in calls]
        self.assertEqual(textOf(self.ask(world, *said, tools=[LOOK])), "donedone")
        world.settle()

    def test_resultAlone(self) -> None:
        """
        A call's id finds its turn, whatever else is said.
        """
        world = World(self)
        client = self.ask(world, plays({"tool": "look", "args": {}, "saying": "seen {result}"}), tools=[LOOK])
        (call,) = self.callsOf(client)
        self.assertEqual(textOf(self.ask(world, result(call, "it"), model="other")), "seen it")
        world.settle()


class FailureTests(ResponsesCase):
    """
    What goes wrong.
    """

    def test_beforeTheFirstEvent(self) -> None:
        """
        A status, streamed or not.
        """
        world = World(self)
        for isStreamed in (True, False):
            client = self.ask(world, plays({"result_error": "Prompt is too long"}), stream=isStreamed)
            self.assertRefused(client, 400, "context_length_exceeded")
            self.assertEqual(client.error["param"], "input")
        world.settle()

    def test_inMidStream(self) -> None:
        """
        The response says that it has failed, its stream ends well, and the
        connection can be used again.
        """
        world = World(self)
        for words, code in (
            ("It broke", "server_error"),
            ("API Error: 429", "rate_limit_exceeded"),
            ("Credit balance is too low", "insufficient_quota"),
        ):
            client = self.ask(world, plays({"say": "some"}, {"result_error": words}), stream=True)
            response = responseOf(client)
            self.assertEqual((response["status"], response["error"]["code"]), ("failed", code))
            self.assertEqual(response["output"][0]["status"], "incomplete")
            self.assertFalse(client.wire.disconnecting)
        self.assertEqual(world.ends, ["up-error"] * 3)
        world.settle()

    def test_clientThatLeaves(self) -> None:
        """
        Its turn is cancelled.
        """
        world = World(self)
        steps = plays({"say": "some"}, {"sleep": 5}, {"say": "more"})
        client = self.post(world, steps, stream=True, store=False)
        world.advance(1)
        client.leave()
        world.advance(1)
        self.assertEqual((world.ends, len(world.sent("cancel"))), (["cl-gone"], 1))
        world.advance(10)
        world.settle()

    def test_daemonIsLost(self) -> None:
        """
        The response has failed.
        """
        world = World(self)
        client = self.post(world, plays({"say": "some"}, {"sleep": 5}), stream=True)
        world.advance(1)
        self.successResultOf(world.daemon.stop())
        world.advance(2)
        self.assertEqual(responseOf(client)["status"], "failed")
        self.assertEqual(world.ends, ["up-lost"])
        world.settle()

    def test_drain(self) -> None:
        """
        What cuts a stream from outside speaks its words too.
        """
        world = World(self)
        client = self.post(world, plays({"say": "some"}, {"sleep": 5}), stream=True)
        world.advance(1)
        world.front.site.stopAccepting()
        world.front.site.cut()
        world.advance(0)
        response = responseOf(client)
        self.assertEqual((response["status"], response["output"][0]["status"]), ("failed", "incomplete"))
        self.assertEqual(world.ends, ["drain"])
        world.advance(10)
        world.settle()

    def test_silentStream(self) -> None:
        """
        It is kept alive with numbered events.
        """
        world = World(self)
        client = self.post(world, plays({"say": "some"}, {"sleep": 40}, {"say": "more"}), stream=True)
        world.advance(45)
        self.assertEqual(textOf(client), "somemore")
        kinds = [event["type"] for event in eventsFrom(client.content)]
        self.assertEqual(kinds.count("keepalive"), 2)
        world.settle()


class RetryTests(ResponsesCase):
    """
    Requests that come again.
    """

    def test_sameIds(self) -> None:
        """
        One answer has one id, whoever is given it.
        """
        world = World(self)
        key = {"idempotency-key": "k"}
        steps = plays({"sleep": 1}, {"say": "once"})
        first = self.post(world, steps, headers=key)
        second = self.post(world, steps, headers=key)
        world.advance(3)
        third = self.ask(world, steps, headers=key)
        self.assertEqual(len(world.sent("prompt")), 1)
        self.assertEqual(first.content, second.content)
        self.assertEqual(responseOf(first)["output"], responseOf(third)["output"])
        world.settle()

    def test_anotherRoute(self) -> None:
        """
        The same body to another dialect is another request.
        """
        world = World(self)
        body = {"model": "echo", "input": "hi", "messages": [says("hi")]}
        for path in (PATH, "/v1/chat/completions"):
            client = world.client().post(body, path, x_stainless_retry_count="1")
            world.until(lambda client=client: client.isComplete)  # type: ignore[misc]
            self.assertEqual(client.status, 200)
        client = world.client().post(body, PATH, idempotency_key="k")
        world.until(lambda: client.isComplete)
        other = world.client().post(body, "/v1/chat/completions", idempotency_key="k")
        other.wire.read()
        self.assertRefused(other, 409, "idempotency_key_reused")
        world.settle()


class SettingTests(ResponsesCase):
    """
    What settings change.
    """

    def test_defaults(self) -> None:
        """
        Neither the worker's tools nor reasoning that nobody asked for.
        """
        self.assertFalse(Configuration().workerTools)
        world = World(self)
        executed = {"chi": "chunk", "chunkType": "tool_executed", "toolName": "Bash", "output": "x"}
        client = self.ask(world, plays({"think": "hm"}, {"raw": executed}, {"say": "so"}), stream=True)
        self.assertEqual([item["type"] for item in responseOf(client)["output"]], ["message"])
        world.settle()

    def test_clientVersion(self) -> None:
        """
        The models are told as to everybody.
        """
        world = World(self)
        client = world.client()
        client.send(b"GET /v1/models?client_version=0.145.0 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        client.wire.read()
        self.assertEqual((client.status, client.json["object"]), (200, "list"))
        world.settle()

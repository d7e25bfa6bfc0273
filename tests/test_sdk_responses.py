"""
The Responses API with the official C{openai} package, over real sockets.
"""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.responses import Response
from pydantic import BaseModel

from tests.serving import ServingCase, inLoop, inThread, script

LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "Look at a thing.",
    "parameters": {
        "type": "object",
        "properties": {"at": {"type": "string"}},
        "required": ["at"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Town(BaseModel):
    """
    What structured answers are parsed into.
    """

    city: str
    people: int


class ResponsesTests(ServingCase):
    """
    What the package returns and raises.
    """

    @inThread
    def test_create(self) -> None:
        """
        One response, with its text and usage.
        """
        raw = self.client.responses.with_raw_response.create(model="echo", input="hello there")
        response = raw.parse()
        self.assertIsInstance(response, Response)
        self.assertEqual((response.output_text, response.status), ("hello there", "completed"))
        self.assertTrue(response.id.startswith("resp_"))
        usage = response.usage
        assert usage is not None
        self.assertEqual(usage.input_tokens + usage.output_tokens, usage.total_tokens)
        self.assertEqual(raw.headers["x-hum-session"], "new")

    @inThread
    def test_streamed(self) -> None:
        """
        Events by their types, to the last.
        """
        events = list(self.client.responses.create(model="echo", input="a b c", stream=True))
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), "a b c")
        last = events[-1]
        assert last.type == "response.completed"
        self.assertEqual(last.response.output_text, "a b c")

    @inThread
    def test_streamHelper(self) -> None:
        """
        It accumulates snapshots without a complaint, reasoning and calls too.
        """
        steps = script({"think": "hm"}, {"say": "so"}, {"tool": "look", "args": {"at": "tree"}})
        with self.client.responses.stream(
            model="script", input=steps, tools=[LOOK], reasoning={"summary": "auto"}
        ) as stream:
            snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
            response = stream.get_final_response()
        self.assertEqual(snapshots[-1], "so")
        self.assertEqual([item.type for item in response.output], ["reasoning", "message", "function_call"])
        call = response.output[2]
        assert call.type == "function_call"
        self.assertEqual(call.parsed_arguments, {"at": "tree"})
        self.answer(steps, response, call.call_id)

    def answer(self, asked: Any, response: Any, callId: str) -> None:
        """
        Give the result of a call, and see the turn end.
        """
        result = {"type": "function_call_output", "call_id": callId, "output": "green"}
        items = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in response.output]
        for item in items:
            for part in item.get("content", ()):
                part.pop("parsed", None)
        again = self.client.responses.create(model="script", input=[*asked, *items, result], tools=[LOOK])
        self.assertEqual(again.status, "completed")
        self.assertEqual([tone["output"] for tone in self.sent("tool-result")], ["green"])

    @inThread
    def test_parse(self) -> None:
        """
        An answer that follows a schema, parsed; streamed too.
        """
        place = {"city": "Oslo", "people": 5}
        steps = script({"say": f"```json\n{json.dumps(place)}\n```"})
        response = self.client.responses.parse(model="script", input=steps, text_format=Town)
        self.assertEqual(response.output_parsed, Town(**place))  # type: ignore[arg-type]
        with self.client.responses.stream(model="script", input=steps, text_format=Town) as stream:
            final = stream.get_final_response()
        self.assertEqual(final.output_parsed, response.output_parsed)

    @inThread
    def test_historyGoesOn(self) -> None:
        """
        The items of an answer, given back as the package dumps them, go on in
        its session.
        """
        asked: list[Any] = [{"role": "user", "content": "first"}]
        first = self.client.responses.create(model="echo", input=asked)
        asked += [*[item.to_dict() for item in first.output], {"role": "user", "content": "second"}]
        raw = self.client.responses.with_raw_response.create(model="echo", input=asked)
        self.assertEqual((raw.headers["x-hum-session"], raw.parse().output_text), ("continued", "second"))

    @inThread
    def test_failures(self) -> None:
        """
        An error before the first event, and a response that has failed after
        it.
        """
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.responses.create(model="echo", input="x", previous_response_id="resp_1")
        self.assertEqual(caught.exception.code, "previous_response_not_found")
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.create(model="nobody", input="x")
        steps = script({"say": "some"}, {"result_error": "It broke"})
        last = list(self.client.responses.create(model="script", input=steps, stream=True))[-1]
        assert last.type == "response.failed" and last.response.error is not None
        self.assertEqual(last.response.error.code, "server_error")

    @inLoop
    async def test_async(self) -> None:
        """
        The asynchronous client too; leaving a stream cancels its turn.
        """
        async with self.newAsyncClient() as client:
            response = await client.responses.create(model="echo", input="hello")
            self.assertEqual(response.output_text, "hello")
            async with client.responses.stream(model="echo", input="a b") as stream:
                self.assertEqual((await stream.get_final_response()).output_text, "a b")
            async with client.responses.stream(model="gated", input="x") as stream:
                async for event in stream:
                    if event.type == "response.output_text.delta":
                        break
        self.whenCancelled()
        self.gate.isOpen = True

    @inThread
    def test_keptResponses(self) -> None:
        """
        Gone on from, retrieved, listed, cancelled and deleted.
        """
        responses = self.client.responses
        first = responses.create(model="echo", input="one")
        raw = responses.with_raw_response.create(model="echo", input="two", previous_response_id=first.id)
        second = raw.parse()
        self.assertEqual((raw.headers["x-hum-session"], second.output_text), ("continued", "two"))
        self.assertEqual(responses.retrieve(second.id), second)
        items = list(responses.input_items.list(second.id, order="asc", limit=1))
        self.assertEqual([item.type for item in items], ["message"] * 3)
        self.assertEqual(responses.cancel(second.id).status, "completed")
        responses.delete(first.id)
        with self.assertRaises(openai.NotFoundError):
            responses.retrieve(first.id)
        with self.assertRaises(openai.BadRequestError) as caught:
            responses.create(model="echo", input="three", previous_response_id=second.id)
        self.assertEqual(caught.exception.code, "previous_response_not_found")

    @inThread
    def test_background(self) -> None:
        """
        Polled to its end, and streamed after it; what fails says so.
        """
        responses = self.client.responses
        found = responses.create(model="echo", input="one two", background=True)
        self.assertEqual((found.status, found.background), ("queued", True))
        while found.status in ("queued", "in_progress"):
            found = responses.retrieve(found.id)
        self.assertEqual((found.status, found.output_text), ("completed", "one two"))
        streamed = list(responses.create(model="echo", input="one two", background=True, stream=True))
        self.assertEqual([event.type for event in streamed[:2]], ["response.created", "response.queued"])
        steps = script({"say": "some"}, {"result_error": "It broke"})
        found = responses.create(model="script", input=steps, background=True)
        while found.status in ("queued", "in_progress"):
            found = responses.retrieve(found.id)
        assert found.error is not None and found.usage is not None
        self.assertEqual((found.status, found.error.code), ("failed", "server_error"))

    @inThread
    def test_resumed(self) -> None:
        """
        A stream that was left is read on from where it was cut, while it runs.
        """
        responses = self.client.responses
        stream = responses.create(model="gated", input="x", stream=True)
        events = []
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta":
                break
        stream.close()
        first = events[0]
        assert first.type == "response.created"
        id = first.response.id
        self.assertEqual(responses.retrieve(id).status, "in_progress")
        self.gate.isOpen = True
        last = events[-1].sequence_number
        rest = list(responses.retrieve(id, stream=True, starting_after=last))
        numbers = [event.sequence_number for event in rest]
        self.assertEqual(numbers, list(range(last + 1, last + 1 + len(rest))))
        whole = list(responses.retrieve(id, stream=True))
        self.assertEqual(events + rest, whole)
        end = whole[-1]
        assert end.type == "response.completed"
        self.assertEqual(end.response.output_text, "one two")
        with responses.stream(response_id=id) as helper:
            self.assertEqual(helper.get_final_response().output_text, "one two")

    @inLoop
    async def test_asyncKept(self) -> None:
        """
        The same with the asynchronous client, and one that is cancelled.
        """
        async with self.newAsyncClient() as client:
            responses = client.responses
            running = await responses.create(model="gated", input="x", background=True)
            stream = await responses.retrieve(running.id, stream=True)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
            cancelled = await responses.cancel(running.id)
            self.assertEqual((cancelled.status, cancelled.output_text), ("cancelled", "one "))
            last = [event async for event in stream][-1]
            self.assertEqual(last.type, "response.failed")
            items = [item async for item in responses.input_items.list(running.id)]
            self.assertEqual(len(items), 1)
            await responses.delete(running.id)
            with self.assertRaises(openai.NotFoundError):
                await responses.retrieve(running.id)
        self.gate.isOpen = True

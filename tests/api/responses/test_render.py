"""
Tests for L{openai_server.api.responses.render}: streams against their grammar,
and whole answers against streams.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Call
from openai_server.api.output import (
    Failed,
    Finished,
    Output,
    Reasoning,
    Text,
    ToolCalls,
    Usage,
    WorkerTool,
)
from openai_server.api.responses.items import REFUSAL
from openai_server.api.responses.render import ResponsesRenderer
from openai_server.api.responses.request import inquiryFromBody
from openai_server.api.sse import keepAliveFrom
from openai_server.errors import APIError
from tests.api.responses.grammar import Grammar, checkResponse, eventsFrom
from tests.api.responses.strategies import answers, words
from tests.support import SyncCase

USAGE = Usage(input=10, output=3, cached=4, cacheWritten=5)
GOOD = Finished("stop", USAGE)
CALLS = ToolCalls(
    (Call("call_1", "look", '{"at":"é"}'), Call("call_2", "patch", "*** Begin\n", "custom")),
)
ASKED = {"model": "m", "input": "hi", "reasoning": {"summary": "auto"}}


def renderer(asked: Any = ASKED, **options: Any) -> ResponsesRenderer:
    """
    What writes the answer to a request.
    """
    own: Any = inquiryFromBody(json.dumps(asked).encode(), "t0", 1000).own
    options = {"showsTools": True, "now": lambda: 1010.5, **options}
    return ResponsesRenderer(own, **options)


def streamed(*batches: Sequence[Output], **options: Any) -> list[dict[str, Any]]:
    """
    The events of a stream that is given its output in these batches.
    """
    writer = renderer(**options)
    return eventsFrom(writer.start() + b"".join([writer.feed(batch) for batch in batches]))


def ended(*events: Output, **options: Any) -> dict[str, Any]:
    """
    The response that a stream of this output ends with, checked.
    """
    return Grammar().check(streamed(events, **options))


def typesOf(events: Sequence[dict[str, Any]]) -> list[str]:
    """
    The types of events, without what they have in common.
    """
    return [event["type"].removeprefix("response.") for event in events]


class StreamTests(SyncCase):
    """
    Streams.
    """

    def test_text(self) -> None:
        """
        One message with one part, a delta for each piece.
        """
        events = streamed([Text(["a", "b"])], [Text(["c"])], [GOOD])
        self.assertEqual(
            typesOf(events),
            ["created", "in_progress", "output_item.added", "content_part.added"]
            + ["output_text.delta"] * 3
            + ["output_text.done", "content_part.done", "output_item.done", "completed"],
        )
        response = Grammar().check(events)
        part = {"type": "output_text", "text": "abc", "annotations": [], "logprobs": []}
        message = {"type": "message", "status": "completed", "role": "assistant", "content": [part]}
        self.assertEqual(response["output"], [{"id": "msg_t0_0", **message}])
        self.assertEqual((response["id"], response["created_at"]), ("resp_t0", 1000))
        self.assertEqual(response["completed_at"], 1010)
        self.assertEqual(
            response["usage"],
            {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 13,
            },
        )

    def test_outputBeforeTheBeginning(self) -> None:
        """
        Whoever writes output first and the beginning after it has the same
        stream as any other.
        """
        writer = renderer()
        said = writer.feed([Text(["a"])])
        Grammar().check(eventsFrom(writer.start() + said + writer.feed([GOOD])))

    def test_calls(self) -> None:
        """
        Each is an item with the id that its result names; the response is
        complete.
        """
        response = ended(Text(["see"]), CALLS, Finished("tool_calls", USAGE))
        message, function, custom = response["output"]
        self.assertEqual((response["status"], message["status"]), ("completed", "completed"))
        self.assertEqual(
            function,
            {
                "id": "fc_t0_1",
                "type": "function_call",
                "status": "completed",
                "call_id": "call_1",
                "name": "look",
                "arguments": '{"at":"é"}',
            },
        )
        self.assertEqual(
            custom,
            {
                "id": "ctc_t0_2",
                "type": "custom_tool_call",
                "call_id": "call_2",
                "name": "patch",
                "input": "*** Begin\n",
            },
        )

    def test_reasoning(self) -> None:
        """
        An item for each stretch of it, where the request asks for a summary.
        """
        said = (Reasoning("h"), Reasoning("m"), Text(["a"]), Reasoning("so"), GOOD)
        output = ended(*said)["output"]
        self.assertEqual([item["type"] for item in output], ["reasoning", "message", "reasoning"])
        self.assertEqual(output[0]["summary"], [{"type": "summary_text", "text": "hm"}])
        for options in ({"showsReasoning": False}, {"asked": {"model": "m", "input": "hi"}}):
            output = ended(*said, **options)["output"]
            self.assertEqual([item["type"] for item in output], ["message"])
        unasked = renderer({"model": "m", "input": "hi"})
        self.assertEqual(unasked.feed([Reasoning("hm")]), b"")

    def test_workersTools(self) -> None:
        """
        Shown whole when they are done, by setting; what is never done is
        incomplete.
        """
        response = ended(
            WorkerTool("mcp__web__fetch__all", False, "1"),
            WorkerTool("Bash", False, "2"),
            WorkerTool("Bash", True, "2", '{"command":"ls"}', "no such thing", True),
            Text(["a"]),
            WorkerTool("mcp__web__fetch__all", True, "1", '{"url":"x"}', "page"),
            WorkerTool("mcp__odd", False),
            GOOD,
        )
        failed, message, fetched, odd = response["output"]
        self.assertEqual(message["type"], "message")
        named = [(item["server_label"], item["name"]) for item in (failed, fetched, odd)]
        self.assertEqual(named, [("worker", "Bash"), ("web", "fetch__all"), ("worker", "mcp__odd")])
        self.assertEqual((failed["status"], failed["output"]), ("failed", None))
        content = [{"type": "text", "text": "no such thing"}]
        self.assertEqual(failed["error"], {"type": "mcp_tool_execution_error", "content": content})
        self.assertEqual((fetched["status"], fetched["output"]), ("completed", "page"))
        self.assertEqual((odd["status"], odd["output"]), ("incomplete", None))
        hidden = renderer(showsTools=False)
        self.assertEqual(hidden.feed([WorkerTool("Bash", False), WorkerTool("Bash", True)]), b"")

    def test_incomplete(self) -> None:
        """
        The open item is incomplete as well, and the reason is told.
        """
        for reason, told in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
            finished: Any = Finished(reason, USAGE)  # type: ignore[arg-type]
            response = ended(Text(["a"]), finished)
            self.assertEqual(response["incomplete_details"], {"reason": told})
            self.assertEqual(response["output"][0]["status"], "incomplete")
        self.assertEqual(ended(Finished("length", USAGE))["output"], [])

    def test_refusalWithoutWords(self) -> None:
        """
        It is a refusal for everybody who reads the items alone.
        """
        (message,) = ended(Finished("content_filter", USAGE))["output"]
        self.assertEqual(message["content"], [{"type": "refusal", "refusal": REFUSAL}])

    def test_nothingSaid(self) -> None:
        """
        A message without text.
        """
        (message,) = ended(GOOD)["output"]
        self.assertEqual(message["content"][0]["text"], "")

    def test_failures(self) -> None:
        """
        The open item is closed, and the code is one that clients act upon; the
        stream ends well.
        """
        self.assertTrue(ResponsesRenderer.errorIsEnd)
        for error, code, message in (
            (APIError("worker_error", "It broke."), "server_error", "It broke."),
            (APIError("context_length_exceeded", "Too long."), "context_length_exceeded", "Too long."),
            (APIError("insufficient_quota", "Empty."), "insufficient_quota", "Empty."),
            (
                APIError("rate_limit_exceeded", "Slow down.", retryAfter=3),
                "rate_limit_exceeded",
                "Slow down. Please try again in 3s.",
            ),
            (
                APIError("rate_limit_exceeded", "Slow down.", mayRetry=False),
                "rate_limit_exceeded",
                "Slow down. Please try again in 1s.",
            ),
            (APIError("worker_error", "a\ud800b"), "server_error", "a?b"),
        ):
            response = ended(Text(["a"]), Failed(error))
            self.assertEqual(response["error"], {"code": code, "message": message})
            self.assertEqual(response["output"][0]["status"], "incomplete")
            writer = renderer()
            Grammar().check(eventsFrom(writer.start() + writer.error(error)))

    def test_keepAlive(self) -> None:
        """
        An event with the number of the last one; or what is set.
        """
        writer = renderer()
        said = writer.start() + writer.keepAlive() + writer.feed([Text(["a"])]) + writer.keepAlive()
        events = eventsFrom(said + writer.feed([GOOD]))
        Grammar().check(events)
        self.assertEqual(events[2], {"type": "keepalive", "sequence_number": 1})
        for said in (keepAliveFrom("comment"), b""):
            self.assertEqual(renderer(keepAlive=said).keepAlive(), said)

    def test_linesOfTextThatSplitLines(self) -> None:
        """
        What some clients take for the end of a line is escaped everywhere.
        """
        odd = "\u2028\u2029\x85\n\r"
        said: Sequence[Output] = (
            Text([odd]),
            Reasoning(odd),
            ToolCalls((Call(odd, odd, odd),)),
            Finished("tool_calls", USAGE),
        )
        self.assertEqual(ended(*said)["output"][0]["content"][0]["text"], odd)


class GrammarTests(SyncCase):
    """
    Any output, in any batches.
    """

    @settings(deadline=None)
    @given(answers, st.data())
    def test_anySplit(self, output: list[Output], data: st.DataObject) -> None:
        """
        The stream follows the grammar wherever the output is cut into batches
        and whatever signs of life stand between them, and always ends with
        the same items; the whole answer has them too.
        """
        writer = renderer()
        said = writer.start()
        cuts = data.draw(st.lists(st.booleans(), min_size=len(output), max_size=len(output)))
        batch: list[Output] = []
        for event, isCut in zip(output, cuts, strict=True):
            batch.append(event)
            if isCut and event is not output[-1]:
                said += writer.feed(batch) + writer.keepAlive()
                batch = []
        said += writer.feed(batch)
        response = Grammar().check(eventsFrom(said))
        joined = renderer()
        whole = Grammar().check(eventsFrom(joined.start() + joined.feed(output)))
        self.assertEqual(response, whole)
        if isinstance(output[-1], Finished):
            body = json.loads(renderer().body(output))
            checkResponse(body)
            self.assertEqual(body, whole)

    @settings(deadline=None)
    @given(st.lists(st.lists(words, min_size=1, max_size=3), min_size=1, max_size=4))
    def test_joinedPieces(self, pieces: list[list[str]]) -> None:
        """
        Text that is given again as one event is the same stream.
        """
        apart = streamed(*[[Text(list(each))] for each in pieces], [GOOD])
        again = streamed([Text([piece for each in pieces for piece in each]), GOOD])
        self.assertEqual(apart, again)

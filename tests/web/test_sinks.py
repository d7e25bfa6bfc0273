"""
Tests for L{openai_server.web.sinks}: events become bytes.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.chat.render import ChatRenderer
from openai_server.api.inquiry import Call
from openai_server.api.output import Failed, Finished, Reasoning, Text, ToolCalls, Usage
from openai_server.errors import APIError, End
from openai_server.web.sinks import StreamSink, WholeSink
from tests.support import SyncCase

CALLS = ToolCalls((Call("call_a", "f", '{"x":1}'), Call("call_b", "g", "free", "custom")))


class FakeStream:
    """
    Records what is done to a stream.
    """

    def __init__(self) -> None:
        self.done: list[object] = []

    def begin(self, contentType: bytes) -> None:
        self.done.append("begin")

    def write(self, data: bytes) -> None:
        assert data, "an empty write"
        self.done.append(data)

    def finish(self) -> None:
        self.done.append("finish")

    def fail(self, event: bytes) -> None:
        self.done.append(("fail", event))

    @property
    def chunks(self) -> list[Any]:
        """
        What was written, decoded.
        """
        lines = b"".join(each for each in self.done if isinstance(each, bytes)).decode().split("\n\n")[:-1]
        data = [line.removeprefix("data: ") for line in lines]
        return [each if each == "[DONE]" else json.loads(each) for each in data]

    @property
    def deltas(self) -> list[Any]:
        """
        The deltas of the chunks.
        """
        return [
            chunk["choices"][0]["delta"]
            for chunk in self.chunks
            if isinstance(chunk, dict) and chunk["choices"]
        ]


class StreamSinkTests(SyncCase):
    """
    A stream of events.
    """

    def newSink(self, **heading: Any) -> tuple[StreamSink, FakeStream]:
        """
        A sink with its stream.
        """
        stream = FakeStream()
        self.ends: list[End] = []
        sink = StreamSink(stream, ChatRenderer("chatcmpl-1", 1, "m", **heading), self.ends.append)  # type: ignore[arg-type]
        return sink, stream

    def test_roleAndFirstTextLeaveInOneWrite(self) -> None:
        """
        The stream begins with its first event.
        """
        sink, stream = self.newSink()
        sink.give([Text(["a", "b"])])
        self.assertEqual(len(stream.done), 2)
        self.assertEqual(
            stream.deltas,
            [{"role": "assistant", "content": "", "refusal": None}, {"content": "a"}, {"content": "b"}],
        )

    def test_heldLongEnoughBeginsWithTheRoleAlone(self) -> None:
        """
        Once; text that follows has no second role.
        """
        sink, stream = self.newSink()
        sink.holdPassed()
        sink.holdPassed()
        sink.give([Text(["a"])])
        self.assertEqual([delta.get("role") for delta in stream.deltas], ["assistant", None])

    def test_endHasFinishUsageAndDone(self) -> None:
        """
        In this order, and the stream is ended well.
        """
        sink, stream = self.newSink(wantsUsage=True)
        sink.give([Text(["a"]), Finished("stop", Usage(1, 2))])
        finish, usage, done = stream.chunks[-3:]
        self.assertEqual(finish["choices"][0]["finish_reason"], "stop")
        self.assertEqual((usage["choices"], usage["usage"]["total_tokens"], done), ([], 3, "[DONE]"))
        self.assertEqual(stream.done[-1], "finish")
        self.successResultOf(sink.outcome)

    def test_failureBeforeTheFirstByteIsRaised(self) -> None:
        """
        Nothing was written: it becomes a status.
        """
        sink, stream = self.newSink()
        sink.give([Failed(APIError("model_not_found", "no"))])
        self.assertEqual(self.failureResultOf(sink.outcome, APIError).value.name, "model_not_found")
        self.assertEqual(stream.done, [])

    def test_failureAfterTextIsAnEventWithoutDone(self) -> None:
        """
        Text of the same moment goes out before it (U6).
        """
        sink, stream = self.newSink()
        sink.give([Text(["a"]), Failed(APIError("worker_error", "no"))])
        self.assertEqual(stream.deltas[-1], {"content": "a"})
        self.assertNotIn("[DONE]", stream.chunks)
        how, event = stream.done[-1]  # type: ignore[misc]
        self.assertEqual((how, json.loads(event[6:])["error"]["code"]), ("fail", "worker_error"))
        self.assertEqual(self.ends, [End.WORKER_ERROR])
        self.successResultOf(sink.outcome)

    def test_hiddenReasoningWritesNothing(self) -> None:
        """
        An empty write would end a chunked body, and a stream that shows
        nothing need not begin.
        """
        sink, stream = self.newSink(reasoningField="none")
        sink.give([Reasoning("hm")])
        sink.give([Reasoning("hm")])
        self.assertEqual((stream.done, sink.hasBegun), ([], False))


class WholeSinkTests(SyncCase):
    """
    One body.
    """

    def test_keepsEverything(self) -> None:
        """
        All events, until the last one.
        """
        sink = WholeSink()
        sink.holdPassed()
        sink.give([Reasoning("hm"), Text(["a", "b"])])
        self.assertNoResult(sink.outcome)
        sink.give([Text(["c"]), Finished("length", Usage(1, 2))])
        self.successResultOf(sink.outcome)
        self.assertEqual((sink.text, len(sink.events)), ("abc", 4))
        self.assertEqual((sink.hasUsage, sink.hasCalls, sink.hasBegun), (True, False, False))

    def test_calls(self) -> None:
        """
        The answer has no usage, which nobody knows yet.
        """
        sink = WholeSink()
        sink.give([CALLS, Finished("tool_calls")])
        self.assertEqual((sink.hasUsage, sink.hasCalls), (False, True))

    def test_failureIsRaised(self) -> None:
        """
        Whatever was said before.
        """
        sink = WholeSink()
        sink.give([Text(["a"]), Failed(APIError("worker_error", "no"))])
        self.failureResultOf(sink.outcome, APIError)

"""
Tests for L{openai_server.api.responses.resume} and for the streams of records.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Inquiry
from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, WorkerTool
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.api.responses.resume import ResumedRenderer
from openai_server.errors import APIError
from tests.api.responses.grammar import Grammar, eventsFrom
from tests.api.responses.strategies import answers
from tests.support import SyncCase

GOOD = Finished("stop")


class ResumedStreamTests(SyncCase):
    """
    The rest of a stream, from an answer that goes on and from its record.
    """

    def setUp(self) -> None:
        super().setUp()
        times = iter(range(10, 10**9))
        self.dialect = ResponsesDialect(keeps=True, showsWorkerTools=True, now=lambda: next(times))

    def inquiry(self, **fields: object) -> Inquiry:
        """
        What a request asks.
        """
        body = {"model": "m", "input": "hi", "reasoning": {"summary": "auto"}, **fields}
        parsed = self.dialect.parse(json.dumps(body).encode())
        assert isinstance(parsed, Inquiry)
        return parsed

    def replayed(self, record: bytes, after: int = -1) -> bytes:
        """
        The rest of the stream of a record.
        """
        renderer, events = self.dialect.replay(record)
        resumed = self.dialect.resumed(renderer, after)
        return resumed.start() + resumed.feed(events)

    def test_everyCut(self) -> None:
        """
        A number names the last event that the client has; beyond the last one
        there is only the end.
        """
        renderer = self.dialect.renderer(self.inquiry())
        whole = renderer.start() + renderer.feed([Text(["a", "b"]), GOOD])
        frames = whole.removesuffix(b"\n\n").split(b"\n\n")
        for after in range(-1, len(frames) + 3):
            renderer = self.dialect.renderer(self.inquiry())
            resumed = ResumedRenderer(renderer, after)
            rest = resumed.start() + resumed.feed([Text(["a"])]) + resumed.feed([Text(["b"]), GOOD])
            self.assertEqual(
                [frame.partition(b"\n")[0] for frame in rest.removesuffix(b"\n\n").split(b"\n\n")],
                [frame.partition(b"\n")[0] for frame in frames[after + 1 :]] or [b"data: [DONE]"],
            )

    def test_errorThatEndsIt(self) -> None:
        """
        What cuts a resumed stream from outside is an event like any other.
        """
        error = APIError("worker_error", "No.")
        for after, kinds in ((1, ["response.failed"]), (2, [])):
            resumed = ResumedRenderer(self.dialect.renderer(self.inquiry()), after)
            said = resumed.start() + resumed.error(error)
            found = [event["type"] for event in eventsFrom(said)] if kinds else []
            self.assertEqual((found, said.endswith(b"data: [DONE]\n\n")), (kinds, True))

    def test_whatIsNoEvent(self) -> None:
        """
        Signs of life, whole answers and types are those of the renderer.
        """
        renderer = self.dialect.renderer(self.inquiry())
        resumed = ResumedRenderer(renderer, 5)
        self.assertEqual(resumed.keepAlive(), renderer.keepAlive())
        self.assertEqual(
            (resumed.streamType, resumed.bodyType, resumed.errorIsEnd),
            (renderer.streamType, renderer.bodyType, renderer.errorIsEnd),
        )
        self.assertIn(b'"completed"', resumed.body([GOOD]))

    def test_asItWasShown(self) -> None:
        """
        A record is shown as it was when it was made, whatever is set later.
        """
        inquiry = self.inquiry()
        keeping = self.dialect.keeping(inquiry)
        assert keeping is not None
        record = keeping.record([Reasoning("hm"), WorkerTool("Bash", True), Text(["a"]), GOOD])
        former = self.replayed(record)
        self.dialect = ResponsesDialect(showsReasoning=False)
        self.assertEqual(self.replayed(record), former)
        kinds = [item["type"] for item in eventsFrom(former)[-1]["response"]["output"]]
        self.assertEqual(kinds, ["reasoning", "mcp_call", "message"])

    @settings(deadline=None)
    @given(answers, st.integers(-1, 60), st.booleans(), st.data())
    def test_anyAnswer(
        self, output: list[Output], after: int, isBackground: bool, data: st.DataObject
    ) -> None:
        """
        Cut anywhere and resumed, live or from the record, an answer has just
        the events that it has uncut, whatever its batches.
        """
        inquiry = self.inquiry(background=isBackground)
        keeping = self.dialect.keeping(inquiry)
        assert keeping is not None
        record = keeping.record(output)
        whole = self.replayed(record)
        events = eventsFrom(whole)
        Grammar().check(events)
        frames = whole.removesuffix(b"\n\n").split(b"\n\n")
        expected = frames[min(after + 1, len(frames) - 1) :]
        self.assertEqual(self.replayed(record, after).removesuffix(b"\n\n").split(b"\n\n"), expected)
        live = ResumedRenderer(keeping.renderer(), after)
        said = live.start()
        cuts = data.draw(st.lists(st.booleans(), min_size=len(output), max_size=len(output)))
        batch: list[Output] = []
        for event, isCut in zip(output, cuts, strict=True):
            batch.append(event)
            if isCut and not isinstance(event, Finished | Failed):
                said += live.feed(batch)
                batch = []
        said += live.feed(batch)
        # But for the time of its completion, which is another one here.
        self.assertEqual(
            [_untimed(frame) for frame in said.removesuffix(b"\n\n").split(b"\n\n")],
            [_untimed(frame) for frame in expected],
        )


def _untimed(frame: bytes) -> bytes:
    head, found, rest = frame.partition(b'"completed_at":')
    return head + rest.lstrip(b"0123456789") if found else head

"""
The messages of WebSocket mode.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.problem import errorBody
from openai_server.api.responses.records import readRecord
from openai_server.api.responses.websocket import (
    CreateEvent,
    createFrom,
    endedFrom,
    errorEventFrom,
    eventsIn,
    inLane,
    isLast,
    laneFrom,
    recordFrom,
)
from openai_server.api.sse import DONE, jsonLine
from openai_server.errors import APIError
from tests.support import SyncCase

#: Texts that look like parts of a stream.
_LOOKALIKES = ("data: [DONE]", "\ndata: x\n\n", "[DONE]", "event: x\n")


def read(isKept: bool = True, **members: Any) -> CreateEvent:
    """
    What an event asks for.
    """
    return createFrom({"type": "response.create", **members}, isKept)


class CreateTests(SyncCase):
    """
    C{response.create}.
    """

    def test_body(self) -> None:
        """
        Is that of a streamed POST, without what is the connection's own.
        """
        members = {"model": "m", "input": "x", "other": [2**70]}
        event = read(stream_id="a", generate=True, background=False, stream=False, **members)
        self.assertEqual(json.loads(event.body), {"stream": True, **members})
        self.assertEqual((event.generates, event.previous), (True, None))

    def test_generates(self) -> None:
        """
        Unless one of two fields says otherwise.
        """
        for members, generates in (
            ({}, True),
            ({"generate": None}, True),
            ({"generate": False}, False),
            ({"generate": True, "prompt_cache_options": {"prewarm": True}}, False),
            ({"prompt_cache_options": {"prewarm": False}}, True),
            ({"prompt_cache_options": "x"}, True),
        ):
            self.assertIs(read(**members).generates, generates)

    def test_input(self) -> None:
        """
        Is needed where a response is known to its connection alone.
        """
        for isKept, members, isNeeded in (
            (True, {}, False),
            (True, {"store": True}, False),
            (True, {"store": False}, True),
            (True, {"previous_response_id": "resp_a"}, True),
            (False, {}, True),
            (True, {"store": False, "conversation": "conv_a"}, False),
        ):
            self.assertEqual(read(isKept, input="x", **members).input, b'"x"' if isNeeded else None)
        self.assertEqual(read(store=False).input, b"[]")

    def test_errors(self) -> None:
        """
        Each names its field.
        """
        for members, param in (
            ({"type": "response.cancel"}, "type"),
            ({"type": None}, "type"),
            ({"background": True}, "background"),
            ({"generate": 0}, "generate"),
        ):
            error = self.assertRaises(APIError, read, **members)
            self.assertEqual((error.kind.status, error.param), (400, param))

    def test_lane(self) -> None:
        """
        A name of some signs, or none.
        """
        for lane in (None, "a", "A-b_c.9", "x" * 256):
            self.assertEqual(laneFrom({"stream_id": lane}), lane)
        self.assertIsNone(laneFrom({}))
        for wrong in ("", "x" * 257, "a b", "a\n", "é", 1, [], {}):
            error = self.assertRaises(APIError, laneFrom, {"stream_id": wrong})
            self.assertEqual((error.name, error.param), ("invalid_stream_id", "stream_id"))


class EventTests(SyncCase):
    """
    What is sent.
    """

    @settings(deadline=None)
    @given(st.lists(st.text("a\n\r: é\u2028\\\"", max_size=9) | st.sampled_from(_LOOKALIKES), max_size=5))
    def test_ofAStream(self, texts: list[str]) -> None:
        """
        Each event of a stream, whatever it says; no comments, and no end.
        """
        events = [jsonLine({"type": "x", "text": text}) for text in texts]
        stream = b"".join([b": keep-alive\n\nevent: x\ndata: %b\n\n" % event for event in events])
        self.assertEqual(list(eventsIn(stream + DONE)), events)
        self.assertEqual(list(eventsIn(b"".join([b"data: %b\n\n" % event for event in events]))), events)

    def test_lane(self) -> None:
        """
        Is a member like others.
        """
        self.assertEqual(inLane(b'{"a":1}', None), b'{"a":1}')
        self.assertEqual(json.loads(inLane(b'{"a":1}', "x.y")), {"a": 1, "stream_id": "x.y"})

    def test_last(self) -> None:
        """
        Three kinds of events are the last.
        """
        for kind in ("completed", "incomplete", "failed"):
            self.assertTrue(isLast(b'{"type":"response.%b","x":1}' % kind.encode()))
        for kind in ("created", "output_text.done", "completed_soon"):
            self.assertFalse(isLast(b'{"type":"response.%b","x":1}' % kind.encode()))

    def test_error(self) -> None:
        """
        An HTTP error with its status, and the headers that clients act upon.
        """
        body = errorBody(APIError("line_full", "Later."))
        headers = {b"retry-after": b"3", b"vary": b"Origin", b"x-should-retry": b"false"}
        event = json.loads(errorEventFrom(body, 429, headers))
        said = {"retry-after": "3", "x-should-retry": "false"}
        self.assertEqual((event["error"].pop("headers"), event.pop("headers")), (said, said))
        self.assertEqual(event, {"type": "error", "status": 429, **json.loads(body)})
        self.assertEqual(json.loads(errorEventFrom(body, 429, {}))["error"], json.loads(body)["error"])

    def test_record(self) -> None:
        """
        As the dialect's own: items with ids that name their response.
        """
        token = "0" * 32
        response = {"id": f"resp_{token}", "status": "completed", "store": False, "model": "m", "output": []}
        event = msgspec.json.encode({"type": "response.completed", "response": response})
        ended = endedFrom(event)
        self.assertEqual((ended.id, ended.status, ended.store), (f"resp_{token}", "completed", False))
        record = readRecord(recordFrom(b'"x"', event))
        (item,) = record.items
        self.assertEqual((item["id"], item["content"][0]["text"]), (f"msg_{token}_in0", "x"))
        self.assertEqual(json.loads(bytes(record.response)), response)

"""
Tests for L{openai_server.api.responses.records}.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.inquiry import Inquiry, Message
from openai_server.api.keeping import Keeping, RecordsFound, RecordsWanted
from openai_server.api.output import Failed, Finished, Output, Text, Usage
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.api.responses.records import isReference, keptItems, namedBy
from openai_server.errors import APIError
from tests.api.responses.grammar import checkResponse
from tests.support import SyncCase

TOKEN = "0123456789abcdef" * 2
GOOD = Finished("stop", Usage(1, 2))


class ItemTests(SyncCase):
    """
    Items as they are kept, and references to them.
    """

    def test_keptItems(self) -> None:
        """
        Each has an id, its own where it has one, and its content in parts.
        """
        message = {"type": "message", "role": "user", "status": "completed"}
        text = {"type": "input_text", "text": "hi"}
        said = {"type": "output_text", "text": "yes", "annotations": []}
        call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
        result = {"type": "function_call_output", "call_id": "c", "output": "x"}
        self.assertEqual(keptItems("hi", "t"), [{"id": "msg_t_in0", **message, "content": [text]}])
        self.assertEqual(
            keptItems(
                [
                    {"role": "user", "content": [text], "name": None},
                    {"role": "assistant", "content": "yes"},
                    call,
                    result,
                    {"type": "odd"},
                ],
                "t",
            ),
            [
                {"id": "msg_t_in0", **message, "content": [text]},
                {"id": "msg_t_in1", **message, "role": "assistant", "content": [said]},
                {**call, "status": "completed"},
                {"id": "fco_t_in3", **result, "status": "completed"},
                {"id": "item_t_in4", "type": "odd"},
            ],
        )

    def test_references(self) -> None:
        """
        With their type and without.
        """
        for item, isOne in (
            ({"type": "item_reference", "id": "x"}, True),
            ({"type": None, "id": "x"}, True),
            ({"id": "x"}, True),
            ({"id": "x", "role": "user"}, False),
            ({"type": "message", "id": "x"}, False),
            ({"type": "item_reference"}, False),
            ("x", False),
        ):
            self.assertEqual(isReference(item), isOne, item)

    def test_wanted(self) -> None:
        """
        The responses of the items that an input names, and the conversations
        of these; an id that is none of ours names nothing.
        """
        nothing = (frozenset(), frozenset())
        self.assertEqual(namedBy("hi"), nothing)
        self.assertEqual(namedBy([{"role": "user"}, {"id": "x"}, 5]), nothing)
        named = [{"id": f"msg_{TOKEN}_0"}, {"id": f"fc_{TOKEN}_in12"}]
        places = {("conv_0123456789abcdef", item["id"]) for item in named}
        self.assertEqual(namedBy(named), ({f"resp_{TOKEN}"}, places))


class RecordTests(SyncCase):
    """
    The records of a dialect's.
    """

    def setUp(self) -> None:
        super().setUp()
        self.dialect = ResponsesDialect(keeps=True, newToken=lambda: TOKEN, now=lambda: 5)

    def inquiry(self, body: bytes) -> Inquiry:
        """
        What a request asks that needs no records.
        """
        parsed = self.dialect.parse(body)
        assert isinstance(parsed, Inquiry)
        return parsed

    def keeping(self, inquiry: Inquiry) -> Keeping:
        """
        How its answer is kept.
        """
        keeping = self.dialect.keeping(inquiry)
        assert keeping is not None
        return keeping

    def record(self, *events: Output, **fields: Any) -> bytes:
        """
        The record of an answer to C{one}.
        """
        body = json.dumps({"model": "m", "input": "one", **fields}).encode()
        return self.keeping(self.inquiry(body)).record(events)

    def answer(self, record: bytes) -> Any:
        """
        The response of a record, checked.
        """
        found = json.loads(self.dialect.answerOf(record))
        checkResponse(found)
        return found

    def test_states(self) -> None:
        """
        A record of every state in which an answer may be.
        """
        text = Text(["a", "b"])
        failed = Failed(APIError("worker_error", "No."))
        cancelled = Failed(APIError("worker_error", "No."), Usage(1, 2), isCancelled=True)
        for events, status, itemStatus in (
            ((text, GOOD), "completed", "completed"),
            ((text, Finished("length", Usage())), "incomplete", "incomplete"),
            ((text, failed), "failed", "incomplete"),
            ((text,), "in_progress", "incomplete"),
            ((text, cancelled), "cancelled", "incomplete"),
        ):
            found = self.answer(self.record(*events))
            (item,) = found["output"]
            self.assertEqual((found["status"], item["status"]), (status, itemStatus))
            self.assertEqual(item["content"][0]["text"], "ab")
        self.assertEqual(self.answer(self.record())["output"], [])

    def test_goingOn(self) -> None:
        """
        A request that goes on from a record says all of it before its own.
        """
        body = json.dumps({"previous_response_id": "resp_1", "input": "two"}).encode()
        wanted = self.dialect.parse(body)
        assert isinstance(wanted, RecordsWanted)
        self.assertEqual((wanted.previous, wanted.others), ("resp_1", frozenset()))
        inquiry = wanted.read(RecordsFound(chain=[self.record(Text(["yes"]), GOOD)]))
        self.assertEqual(inquiry.model, "m")
        self.assertEqual(
            inquiry.messages, (Message("user", ("one",)), Message("assistant", "yes"), Message("user", "two"))
        )
        keeping = self.keeping(inquiry)
        self.assertEqual((keeping.id, keeping.previous), (f"resp_{TOKEN}", "resp_1"))
        second = keeping.record([Text(["so"]), GOOD])
        roles = [item["role"] for item in self.dialect.inputOf([self.record(Text(["yes"]), GOOD), second])]
        self.assertEqual(roles, ["user", "assistant", "user"])
        error = self.assertRaises(APIError, wanted.read, RecordsFound())
        self.assertEqual((error.name, error.param), ("previous_response_not_found", "previous_response_id"))

    def test_unkept(self) -> None:
        """
        By the request's wish, or for all.
        """
        body = b'{"model":"m","input":"x","store":false}'
        self.assertIsNone(self.dialect.keeping(self.inquiry(body)))
        self.dialect = ResponsesDialect()
        self.assertIsNone(self.dialect.keeping(self.inquiry(b'{"model":"m","input":"x","store":true}')))

"""
Tests for L{openai_server.api.responses.compaction}, and for compactions that
come back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai_server.api.inquiry import NO_CHOICE, NO_SAMPLING, PLAIN_TEXT, Inquiry, Message
from openai_server.api.keeping import RecordsFound, RecordsWanted
from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, Usage
from openai_server.api.responses.compaction import CompactionDialect
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.errors import APIError
from tests.api.responses.grammar import checkCompaction
from tests.api.responses.plainseal import PlainSeal
from tests.support import SyncCase

DIALECT = CompactionDialect(now=lambda: 7.5, newToken=lambda: "0" * 32)
USAGE = Usage(3, 4)


def said(content: str, role: str = "user") -> dict[str, Any]:
    """
    A message.
    """
    return {"role": role, "content": content}


def sealed(text: str, **fields: Any) -> dict[str, Any]:
    """
    A compaction.
    """
    return {"type": "compaction", "encrypted_content": f"sealed:{text}", **fields}


class AskTests(SyncCase):
    """
    What a model is asked for.
    """

    def inquiry(
        self, chain: Sequence[bytes] = (), others: Sequence[bytes] = (), **body: Any
    ) -> Inquiry:
        """
        What a request asks.
        """
        wanted = DIALECT.parse(json.dumps({"model": "m", **body}).encode())
        return wanted.read(RecordsFound(chain=chain, others=others, seal=PlainSeal()))

    def test_summary(self) -> None:
        """
        All of the input and the instructions, and then a summary of it: whole,
        with no tools, in a session of its own.
        """
        inquiry = self.inquiry(
            input=[said("one"), said("two", "assistant")],
            instructions="Be brief.",
            tools=[{"type": "function", "name": "f"}],
            tool_choice="required",
            text={"format": {"type": "json_object"}},
            temperature=1,
            stream=True,
        )
        *messages, last = inquiry.messages
        expected = [Message("system", "Be brief."), Message("user", "one"), Message("assistant", "two")]
        self.assertEqual((messages, last.role), (expected, "user"))
        for word in ("Asked", "Decided", "Done", "Found", "Open", "call no tools"):
            self.assertIn(word, last.text)
        self.assertEqual((inquiry.tools, inquiry.toolChoice), ((), NO_CHOICE))
        self.assertEqual((inquiry.sampling, inquiry.format), (NO_SAMPLING, PLAIN_TEXT))
        self.assertEqual((inquiry.isIsolated, inquiry.mayAct, inquiry.isStreamed), (True, False, False))
        self.assertIsNone(DIALECT.keeping(inquiry))

    def test_compactedOnceMore(self) -> None:
        """
        The former summary is some of what is summarized.
        """
        inquiry = self.inquiry(input=[sealed("before"), said("one")])
        self.assertEqual([each.text for each in inquiry.messages[:-1]], ["before", "one"])

    def test_previous(self) -> None:
        """
        What a kept response was, its model too, and then the input.
        """
        kept = ResponsesDialect(keeps=True).parse(b'{"model":"n","input":"zero"}')
        assert isinstance(kept, Inquiry)
        keeping = ResponsesDialect(keeps=True).keeping(kept)
        assert keeping is not None
        record = keeping.record([Text(["yes"]), Finished("stop", USAGE)])
        inquiry = self.inquiry([record], model=None, previous_response_id=keeping.id, input="one")
        self.assertEqual([each.text for each in inquiry.messages[:-1]], ["zero", "yes", "one"])
        self.assertEqual(inquiry.model, "n")
        alone = self.inquiry([record], previous_response_id=keeping.id)
        self.assertEqual([each.text for each in alone.messages[:-1]], ["zero", "yes"])

    def test_refusals(self) -> None:
        """
        Without a model, or anything to summarize; and what a response's request
        is refused for.
        """
        for body, param in (
            ({"model": None, "input": "x"}, "model"),
            ({"input": None}, "input"),
            ({"input": [], "instructions": "x"}, "input"),
            ({"input": [], "max_output_tokens": 1}, "input"),
            ({"input": [said("x", "robot")]}, "input[0].role"),
            ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ):
            error = self.assertRaises(APIError, self.inquiry, **body)
            self.assertEqual((error.kind.status, error.param), (400, param))


class AnswerTests(SyncCase):
    """
    What becomes of the summary.
    """

    def body(self, *events: Output) -> Any:
        """
        The answer, checked.
        """
        wanted = DIALECT.parse(b'{"model":"m","input":"x"}')
        found = json.loads(DIALECT.renderer(wanted.read(RecordsFound(seal=PlainSeal()))).body(events))
        checkCompaction(found)
        return found

    def test_compaction(self) -> None:
        """
        One item, with the summary and what it is.
        """
        found = self.body(Reasoning("hm"), Text(["it was ", "good"]), Finished("stop", USAGE))
        self.assertEqual((found["id"], found["created_at"]), (f"resp_{'0' * 32}", 7))
        (item,) = found["output"]
        self.assertEqual(item["id"], f"cmp_{'0' * 32}_0")
        self.assertTrue(item["encrypted_content"].startswith("sealed:This is the summary"))
        self.assertTrue(item["encrypted_content"].endswith("\n\nit was good"))
        self.assertEqual(found["usage"]["total_tokens"], 7)

    def test_noWholeSummary(self) -> None:
        """
        Is an error, since the client would throw away what it has.
        """
        for said, reason in (("", "stop"), (" \n", "stop"), ("x", "length"), ("x", "content_filter")):
            events = [Text([said]), Finished(reason, USAGE)]  # type: ignore[arg-type]
            error = self.assertRaises(APIError, self.body, *events)
            self.assertEqual((error.kind.status, error.mayRetry), (502, False))

    def test_conversation(self) -> None:
        """
        It is refused: nothing would be compacted in it.
        """
        body = b'{"model":"m","input":"x","conversation":"conv_1"}'
        error = self.assertRaises(APIError, DIALECT.parse, body)
        self.assertEqual((error.name, error.param), ("unsupported_parameter", "conversation"))

    def test_neverStreamed(self) -> None:
        """
        A stream would say nothing, but for its error.
        """
        wanted = DIALECT.parse(b'{"model":"m","input":"x"}')
        renderer = DIALECT.renderer(wanted.read(RecordsFound(seal=PlainSeal())))
        self.assertEqual(renderer.start() + renderer.keepAlive() + renderer.feed([Text(["x"])]), b"")
        failed = Failed(APIError("worker_error", "no"))
        self.assertEqual(renderer.feed([failed]), renderer.error(failed.error))
        self.assertIn(b"worker_error", renderer.error(failed.error))


class ContextTests(SyncCase):
    """
    Compactions in the input of a response.
    """

    def read(self, *input: Any, **body: Any) -> Inquiry:
        """
        What a request asks.
        """
        dialect = ResponsesDialect(keeps=True)
        parsed = dialect.parse(json.dumps({"model": "m", "input": input, **body}).encode())
        assert isinstance(parsed, RecordsWanted)
        self.assertEqual((parsed.previous, parsed.others), (None, frozenset()))
        inquiry = parsed.read(RecordsFound(seal=PlainSeal()))
        self.keeping = dialect.keeping(inquiry)
        return inquiry

    def test_becomesAMessage(self) -> None:
        """
        Of the user's, in its place; it is kept as it came.
        """
        inquiry = self.read(said("a"), sealed("s", id="cmp_1", created_by="x"), said("b"), instructions="i")
        self.assertEqual([each.text for each in inquiry.messages], ["i", "a", "s", "b"])
        self.assertEqual([each.role for each in inquiry.messages], ["system", "user", "user", "user"])
        self.assertEqual(inquiry.ignored, ())
        assert self.keeping is not None
        record = self.keeping.record([Finished("stop", USAGE)])
        items = ResponsesDialect(keeps=True).inputOf([record])
        self.assertEqual(items[1], sealed("s", id="cmp_1", created_by="x"))

    def test_goneOnFrom(self) -> None:
        """
        One in what was said before is opened too; it gets an id of its own.
        """
        self.read(sealed("s"))
        assert self.keeping is not None
        record = self.keeping.record([Text(["yes"]), Finished("stop", USAGE)])
        body = {"input": "b", "previous_response_id": self.keeping.id}
        parsed = ResponsesDialect().parse(json.dumps(body).encode())
        assert isinstance(parsed, RecordsWanted)
        inquiry = parsed.read(RecordsFound(chain=[record], seal=PlainSeal()))
        self.assertEqual([each.text for each in inquiry.messages], ["s", "yes", "b"])
        (item,) = ResponsesDialect().inputOf([record])
        self.assertTrue(item["id"].startswith("cmp_"))

        class Other(PlainSeal):
            def open(self, token: str) -> None:
                pass

        error = self.assertRaises(APIError, parsed.read, RecordsFound(chain=[record], seal=Other()))
        self.assertEqual(error.param, "previous_response_id.encrypted_content")

    def test_refusals(self) -> None:
        """
        One that cannot be opened is never left out.
        """
        for item, code, param in (
            ({"encrypted_content": "x"}, "invalid_value", "input[1].encrypted_content"),
            ({"encrypted_content": ""}, "invalid_value", "input[1].encrypted_content"),
            ({"encrypted_content": 1}, "invalid_type", "input[1].encrypted_content"),
            ({}, "missing_required_parameter", "input[1].encrypted_content"),
        ):
            error = self.assertRaises(APIError, self.read, said("a"), {"type": "compaction", **item})
            self.assertEqual((error.name, error.param), (code, param))

    def test_trigger(self) -> None:
        """
        That the server is to compact by itself is named as ignored.
        """
        parsed = ResponsesDialect().parse(
            json.dumps({"model": "m", "input": [said("a"), {"type": "compaction_trigger"}]}).encode()
        )
        assert isinstance(parsed, Inquiry)
        self.assertEqual((parsed.ignored, len(parsed.messages)), (("input.compaction_trigger",), 1))

"""
Tests for L{openai_server.api.chat.records}.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.chat.dialect import ChatDialect
from openai_server.api.chat.records import ChatHead, changedRecord, isDescribedBy, recordFrom
from openai_server.api.inquiry import Inquiry
from openai_server.api.output import Failed, Finished, Output, Text, Usage
from openai_server.errors import APIError
from tests.api.chat.stored import checkCompletion, checkMessage
from tests.support import SyncCase

ANSWER: list[Output] = [Text(["so"]), Finished("stop", Usage(1, 2))]


class KeepingTests(SyncCase):
    """
    What the dialect says of an answer that is to be kept.
    """

    def inquiry(self, *messages: Any, store: bool = True, keeps: bool = True, **fields: Any) -> Inquiry:
        """
        What a request asks.
        """
        body = {"model": "m", "messages": messages or [{"role": "user", "content": "x"}], "store": store}
        self.dialect = ChatDialect(keeps=keeps, now=lambda: 5.5)
        return self.dialect.parse(json.dumps({**body, **fields}).encode())

    def test_oneIdAndTime(self) -> None:
        """
        Of all that renders it, and of its record.
        """
        inquiry = self.inquiry(metadata={"a": "b"})
        keeping = self.dialect.keeping(inquiry)
        assert keeping is not None
        record = json.loads(keeping.record(ANSWER))
        checkCompletion(record)
        for _ in range(2):
            told = json.loads(self.dialect.renderer(inquiry).body(ANSWER))
            self.assertEqual({**told, "metadata": {"a": "b"}}, record)
        self.assertEqual((record["id"], record["created"], keeping.kind), (keeping.id, 5, "chat"))
        self.assertTrue(keeping.id.startswith("chatcmpl-"))

    def test_notKept(self) -> None:
        """
        Not asked for, or nothing is kept; then the field is named.
        """
        for store, keeps, ignored in ((False, True, ()), (False, False, ()), (True, False, ("store",))):
            inquiry = self.inquiry(store=store, keeps=keeps)
            self.assertEqual((inquiry.own, inquiry.ignored), (None, ignored))
            self.assertIsNone(self.dialect.keeping(inquiry))
        inquiry = self.inquiry(seed=1, keeps=False)
        self.assertEqual(inquiry.ignored, ("seed", "store"))

    def test_notComplete(self) -> None:
        """
        Has no record.
        """
        inquiry = self.inquiry()
        keeping = self.dialect.keeping(inquiry)
        assert keeping is not None
        failed = Failed(APIError("worker_error", "no"))
        for events in (None, [], ANSWER[:1], [ANSWER[0], failed]):
            self.assertEqual(keeping.record(events), b"")

    def messages(self, *sent: Any) -> list[Any]:
        """
        The messages of a request as they are kept, checked.
        """
        head = self.inquiry(*sent).own
        assert isinstance(head, ChatHead)
        found = [json.loads(data) for _, data in head.messages]
        self.assertEqual([each["id"] for each in found], [id for id, _ in head.messages])
        self.assertEqual([id for id, _ in head.messages], [f"{head.id}-{at}" for at in range(len(sent))])
        for each in found:
            checkMessage(each)
            del each["id"]
        return found

    def test_messages(self) -> None:
        """
        As they were sent: text as text, parts as parts.
        """
        plain = {"refusal": None, "content_parts": None}
        for role in ("developer", "system", "user"):
            said = {"role": role, "content": "x"}
            self.assertEqual(self.messages(said), [{**said, **plain}])
        said = {"role": "assistant", "content": None, "refusal": "no"}
        self.assertEqual(self.messages(said), [{**said, "content_parts": None}])

    def test_parts(self) -> None:
        """
        Of text and images in the package's words, whatever the client's were.
        """
        text = {"type": "text", "text": "x"}
        address = {"type": "image_url", "image_url": {"url": "https://x/"}}
        detailed = {"type": "image_url", "image_url": {"url": "https://x/", "detail": "low"}}
        sent = [{**text, "type": "input_text"}, {**address, "image_url": "https://x/"}, address, detailed]
        (found,) = self.messages({"role": "user", "content": sent})
        parts = [text, address, address, detailed]
        self.assertEqual((found["content"], found["content_parts"]), (None, parts))
        (found,) = self.messages({"role": "user", "content": []})
        self.assertEqual((found["content"], found["content_parts"]), (None, []))

    def test_otherParts(self) -> None:
        """
        Are kept too.
        """
        sent = [
            {"type": "file", "file": {"filename": "a", "file_data": "YQ=="}},
            {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}},
        ]
        head = self.inquiry({"role": "user", "content": sent}).own
        assert isinstance(head, ChatHead)
        self.assertEqual(json.loads(head.messages[0][1])["content_parts"], sent)

    def test_callsAndResults(self) -> None:
        """
        Of all shapes, arguments as text.
        """
        look: Any = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
        patch: Any = {"id": "2", "type": "custom", "custom": {"name": "patch", "input": "x"}}
        sent = {**look, "type": None, "function": {"name": "look", "arguments": {"a": 1}}}
        old = {"name": "old", "arguments": "{}"}
        results = [{"role": "tool", "tool_call_id": each, "content": "x"} for each in ("1", "2")]
        calls, first, _ = self.messages({"role": "assistant", "tool_calls": [sent, patch]}, *results)
        self.assertEqual(calls["tool_calls"], [look, patch])
        self.assertNotIn("function_call", calls)
        self.assertEqual(first, {**results[0], "refusal": None, "content_parts": None})
        said = {"role": "assistant", "function_call": old}
        both, answered = self.messages(said, {"role": "function", "name": "old", "content": "x"})
        self.assertEqual((both["function_call"], answered["name"]), (old, "old"))
        self.assertNotIn("tool_calls", both)


class RecordTests(SyncCase):
    """
    What is done with records.
    """

    record = recordFrom(b'{"id":"i","model":"m","choices":[{"message":{"content":"}"}}]}', {"a": "1"})

    def test_description(self) -> None:
        """
        A model and all of some metadata.
        """
        for model, metadata, isMet in (
            (None, {}, True),
            ("m", {}, True),
            ("n", {}, False),
            (None, {"a": "1"}, True),
            ("m", {"a": "1", "b": "2"}, False),
            ("m", {"a": ""}, False),
        ):
            self.assertIs(isDescribedBy(self.record, model, metadata), isMet)

    def test_change(self) -> None:
        """
        Of metadata, and of nothing else.
        """
        changed = json.loads(changedRecord(self.record, b'{"metadata":{"b":"2"},"model":"n"}', False))
        self.assertEqual(changed, {**json.loads(self.record), "metadata": {"b": "2"}})
        cleared = changedRecord(self.record, b'{"metadata":null}', False)
        self.assertEqual(json.loads(cleared)["metadata"], {})

    def test_refusals(self) -> None:
        """
        Each names the field.
        """
        for body, isStrict, param in (
            (b"{}", False, "metadata"),
            (b'{"metadata":[]}', False, "metadata"),
            (b'{"metadata":{"a":null}}', False, "metadata"),
            (b'{"metadata":{"a":"%b"}}' % (b"x" * 513), False, "metadata"),
            (b'{"metadata":{},"model":"n","x":1}', True, "model"),
            (b"[]", False, None),
        ):
            error = self.assertRaises(APIError, changedRecord, self.record, body, isStrict)
            self.assertEqual((error.kind.status, error.param), (400, param))

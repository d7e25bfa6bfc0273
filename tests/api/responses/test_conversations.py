"""
Tests for L{openai_server.api.responses.conversations}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from openai_server.api.inquiry import Inquiry, Message
from openai_server.api.keeping import ItemsWanted, RecordsFound, RecordsWanted
from openai_server.api.output import Finished, Output, Text, Usage
from openai_server.api.responses.conversations import MOST_ITEMS, Conversations
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.errors import APIError
from tests.api.responses.grammar import checkConversation, checkItem, checkResponse
from tests.support import SyncCase

#: A conversation is named by the end of it alone.
DIGITS = "0123456789abcdef"
TOKEN = "f" * 16 + DIGITS
ID = "conv_0123456789abcdef"
GOOD: Sequence[Output] = (Text(["yes"]), Finished("stop", Usage()))
USER: dict[str, Any] = {"role": "user", "content": "hi"}


class ConversationCase(SyncCase):
    """
    Has a dialect, and its conversations.
    """

    def setUp(self) -> None:
        super().setUp()
        self.dialect = ResponsesDialect(keeps=True, newToken=lambda: "e" * 32)
        self.conversations = self.made()

    def made(self, strict: bool = False) -> Conversations:
        """
        Conversations whose ids are known.
        """
        return Conversations(self.dialect.renderer, strict=strict, now=lambda: 5.5, newToken=lambda: TOKEN)

    def new(self, **fields: Any) -> tuple[str, bytes, ItemsWanted | None]:
        """
        What a request makes.
        """
        return self.conversations.newConversation(json.dumps(fields).encode())

    def items(self, *items: Any, **found: Any) -> list[Any]:
        """
        The items that a request adds, checked.
        """
        body = json.dumps({"items": items}).encode()
        entries, _ = self.conversations.newItems(ID, body).read(RecordsFound(**found))
        read = [json.loads(data) for _, data in entries]
        self.assertEqual([id for id, _ in entries], [item["id"] for item in read])
        for item in read:
            checkItem(item)
        return read


class ConversationTests(ConversationCase):
    """
    Records and their bodies.
    """

    def test_record(self) -> None:
        """
        What is made of a request, be it empty, and of a change.
        """
        for body in (b"", b"{}", b'{"metadata":null,"items":null}', b'{"items":[]}'):
            id, record, wanted = self.conversations.newConversation(body)
            self.assertEqual((id, wanted), (ID, None))
        shown = {"id": ID, "object": "conversation", "created_at": 5, "metadata": {}}
        checkConversation(shown)
        self.assertEqual(json.loads(self.conversations.bodyOf(id, record)), shown)
        record = self.conversations.changed(record, b'{"metadata":{"a":"b"}}')
        self.assertEqual(json.loads(self.conversations.bodyOf(id, record))["metadata"], {"a": "b"})
        lost = self.conversations.withLoss(record)
        self.assertEqual(self.conversations.bodyOf(id, lost), self.conversations.bodyOf(id, record))
        record = self.conversations.changed(record, b'{"metadata":null}')
        self.assertEqual(json.loads(self.conversations.bodyOf(id, record)), shown)
        checkConversation(json.loads(self.conversations.deletedBody(id)))

    def test_refused(self) -> None:
        """
        An error names its field.
        """
        for body, code, param in (
            (b"[]", "bad_request", None),
            (b"{", "invalid_json", None),
            (b'{"metadata":5}', "invalid_type", "metadata"),
            (b'{"metadata":{"k":5}}', "invalid_type", "metadata"),
            (b'{"metadata":{"' + b"k" * 65 + b'":"v"}}', "invalid_value", "metadata"),
            (b'{"items":{}}', "invalid_type", "items"),
            (b'{"items":[%b]}' % b",".join([b"{}"] * (MOST_ITEMS + 1)), "invalid_value", "items"),
        ):
            with self.subTest(body=body):
                error = self.assertRaises(APIError, self.conversations.newConversation, body)
                self.assertEqual((error.name, error.param), (code, param))
        record = self.new()[1]
        for body in (b"{}", b'{"items":[]}'):
            error = self.assertRaises(APIError, self.conversations.changed, record, body)
            self.assertEqual((error.name, error.param), ("missing_required_parameter", "metadata"))
        error = self.assertRaises(APIError, self.conversations.newItems, ID, b'{"items":null}')
        self.assertEqual((error.name, error.param), ("missing_required_parameter", "items"))
        error = self.assertRaises(APIError, self.items, USER, {"role": "user"})
        self.assertEqual(error.param, "items[1].content")

    def test_strict(self) -> None:
        """
        Fields that OpenAI does not know are refused where that is wanted.
        """
        body = b'{"items":[{"role":"user","content":"x","mood":1}],"x":1}'
        _, _, wanted = self.conversations.newConversation(body)
        assert wanted is not None
        self.assertEqual(wanted.read(RecordsFound())[1], ("items[0].mood",))
        self.conversations = self.made(strict=True)
        error = self.assertRaises(APIError, self.conversations.newConversation, body)
        self.assertEqual((error.name, error.param), ("unknown_parameter", "x"))
        error = self.assertRaises(APIError, self.items, {**USER, "mood": 1})
        self.assertEqual((error.name, error.param), ("unknown_parameter", "items[0].mood"))
        self.assertEqual(len(self.items(USER)), 1)


class ItemTests(ConversationCase):
    """
    Items.
    """

    def test_ids(self) -> None:
        """
        Their own where these can be; else one that names the conversation.
        """
        taken = {**USER, "id": "msg_mine"}
        wrong: Any = ["a/b", "", 5, None, "x" * 129]
        read = self.items(taken, taken, *[{**USER, "id": id} for id in wrong])
        ours = [f"msg_{DIGITS}{DIGITS}_in{number}" for number in range(1, 7)]
        self.assertEqual([item["id"] for item in read], ["msg_mine", *ours])

    def test_wholeItems(self) -> None:
        """
        Each has all that the package's types want.
        """
        image = {"type": "input_image", "image_url": {"url": "data:,"}, "file_id": None}
        said = {"type": "output_text", "text": "yes"}
        read = self.items(
            {"role": "user", "content": [image, {"type": "input_file", "file_data": "data:,"}]},
            {"role": "assistant", "content": [said, {"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": None},
            {"type": "function_call", "call_id": "c", "name": "f"},
            {"type": "function_call_output", "call_id": "c", "output": [{**image, "image_url": "data:,"}]},
        )
        whole = {"type": "input_image", "image_url": "data:,", "detail": "auto"}
        self.assertEqual(read[0]["content"][0], whole)
        self.assertEqual(read[1]["content"][0], {**said, "annotations": []})
        self.assertEqual(read[2]["content"], [{"type": "output_text", "text": "", "annotations": []}])
        self.assertEqual((read[3]["arguments"], read[4]["output"]), ("{}", [whole]))

    def test_references(self) -> None:
        """
        What they name is added again.
        """
        item = self.items(USER)[0]
        reference = {"type": "item_reference", "id": item["id"]}
        wanted = self.conversations.newItems(ID, json.dumps({"items": [reference]}).encode())
        self.assertEqual(wanted.items, {(ID, item["id"])})
        self.assertEqual(self.items(reference, items=[json.dumps(item).encode()]), [item])
        error = self.assertRaises(APIError, self.items, USER, reference)
        self.assertEqual((error.name, error.param), ("invalid_value", "items[1].id"))


class ResponseTests(ConversationCase):
    """
    Requests in a conversation, and what they add to it.
    """

    def wanted(self, **fields: Any) -> RecordsWanted:
        """
        What a request in the conversation needs.
        """
        body = json.dumps({"model": "m", "input": "two", "conversation": ID, **fields}).encode()
        wanted = self.dialect.parse(body)
        assert isinstance(wanted, RecordsWanted)
        self.assertEqual((wanted.conversation, wanted.previous), (ID, None))
        return wanted

    def read(self, *items: Any, **fields: Any) -> Inquiry:
        """
        What a request asks behind these items.
        """
        said = [json.dumps(item).encode() for item in items]
        return self.wanted(**fields).read(RecordsFound(conversation=self.new()[1], said=said))

    def test_goesOn(self) -> None:
        """
        It says all that was said before; its answer has ids that name the
        conversation, kept or not, and shows it.
        """
        for named in (ID, {"id": ID}):
            for store in (True, False):
                inquiry = self.read(*self.items(USER), conversation=named, store=store)
                self.assertEqual(inquiry.messages, (Message("user", ("hi",)), Message("user", "two")))
                self.assertIs(self.dialect.keeping(inquiry) is not None, store)
                response = json.loads(self.dialect.renderer(inquiry).body(GOOD))
                checkResponse(response)
                self.assertEqual(response["conversation"], {"id": ID})
                self.assertEqual(response["id"], f"resp_{DIGITS}{'e' * 16}")
                entries = self.conversations.itemsOf(inquiry, GOOD)
                items = [json.loads(data) for _, data in entries]
                self.assertEqual([item["role"] for item in items], ["user", "assistant"])
                self.assertEqual(items[1:], response["output"])
                for id, _ in entries:
                    self.assertTrue(id.startswith(f"msg_{DIGITS}"), id)
                self.assertEqual(self.conversations.itemsOf(inquiry, ()), entries[:1])

    def test_saidAgain(self) -> None:
        """
        What refers to an item of the conversation says it a second time.
        """
        (item,) = self.items(USER)
        inquiry = self.read(item, input=[{"type": "item_reference", "id": item["id"]}])
        self.assertEqual(len(inquiry.messages), 2)
        ((id, data),) = self.conversations.itemsOf(inquiry, ())
        self.assertEqual({**json.loads(data), "id": item["id"]}, item)
        self.assertNotEqual(id, item["id"])

    def test_foreignId(self) -> None:
        """
        An id that is none of ours names nothing in the ids of its response.
        """
        body = b'{"model":"m","input":"x","conversation":"conv_x"}'
        wanted = self.dialect.parse(body)
        assert isinstance(wanted, RecordsWanted)
        inquiry = wanted.read(RecordsFound(conversation=self.new()[1]))
        self.assertIn(b'"id":"resp_' + b"e" * 32, self.dialect.renderer(inquiry).body(GOOD))

    def test_lacksAnAnswer(self) -> None:
        """
        Nothing is asked where something is missing.
        """
        lost = self.conversations.withLoss(self.new()[1])
        error = self.assertRaises(APIError, self.wanted().read, RecordsFound(conversation=lost))
        self.assertEqual((error.name, error.param), ("invalid_value", "conversation"))

    def test_unreadMembers(self) -> None:
        """
        Those of items that were said before are named with the field that
        brought them.
        """
        inquiry = self.read({**self.items(USER)[0], "mood": "good"})
        self.assertEqual(inquiry.ignored, ("conversation.mood",))

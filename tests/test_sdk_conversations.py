"""
Conversations with the official C{openai} package, over real sockets.
"""

from __future__ import annotations

from typing import Any

import openai

from tests.serving import ServingCase, inLoop, inThread, script
from tests.test_sdk_responses import LOOK

USER: Any = {"type": "message", "role": "user", "content": "one"}


class ConversationsTests(ServingCase):
    """
    What the package returns and raises.
    """

    @inThread
    def test_conversations(self) -> None:
        """
        Created, retrieved, updated and deleted.
        """
        conversations = self.client.conversations
        made = conversations.create(metadata={"topic": "a"}, items=[USER])
        self.assertEqual((made.object, made.metadata), ("conversation", {"topic": "a"}))
        self.assertEqual(conversations.retrieve(made.id), made)
        changed = conversations.update(made.id, metadata={"topic": "b"})
        self.assertEqual((changed.id, changed.metadata), (made.id, {"topic": "b"}))
        deleted = conversations.delete(made.id)
        self.assertEqual((deleted.id, deleted.deleted), (made.id, True))
        with self.assertRaises(openai.NotFoundError) as caught:
            conversations.retrieve(made.id)
        self.assertIn(made.id, str(caught.exception))
        self.assertEqual(conversations.create().metadata, {})

    @inThread
    def test_items(self) -> None:
        """
        Created, listed over all pages, retrieved and deleted.
        """
        conversations = self.client.conversations
        id = conversations.create(items=[USER]).id
        given: Any = [{"role": "user", "content": str(number)} for number in range(20)]
        added = conversations.items.create(id, items=given)
        self.assertEqual((len(added.data), added.data[-1].id, added.has_more), (20, added.last_id, False))
        listed = list(conversations.items.list(id, order="asc", limit=3))
        self.assertEqual(listed[1:], added.data)
        self.assertEqual(list(conversations.items.list(id)), listed[::-1])
        item = listed[1]
        assert item.id is not None and item.type == "message"
        self.assertEqual(conversations.items.retrieve(item.id, conversation_id=id), item)
        self.assertEqual(conversations.items.delete(item.id, conversation_id=id).id, id)
        with self.assertRaises(openai.NotFoundError):
            conversations.items.retrieve(item.id, conversation_id=id)
        with self.assertRaises(openai.BadRequestError) as caught:
            conversations.items.create(id, items=[*given, USER])
        self.assertEqual(caught.exception.param, "items")

    @inThread
    def test_responses(self) -> None:
        """
        They go on in the conversation, whole and streamed, with calls too.
        """
        responses, conversations = self.client.responses, self.client.conversations
        id = conversations.create().id
        first = responses.create(model="echo", input="one", conversation=id)
        assert first.conversation is not None
        self.assertEqual((first.output_text, first.conversation.id), ("one", id))
        raw = responses.with_raw_response.create(model="echo", input="two", conversation={"id": id})
        self.assertEqual((raw.headers["x-hum-session"], raw.parse().output_text), ("continued", "two"))
        steps = script({"tool": "look", "args": {"at": "tree"}, "saying": "{result}"})
        with responses.stream(model="script", input=steps, tools=[LOOK], conversation=id) as stream:
            call = stream.get_final_response().output[-1]
        assert call.type == "function_call"
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "green"}
        last = responses.create(model="script", input=[result], tools=[LOOK], conversation=id)
        self.assertEqual(last.output_text, "green")
        kinds = [item.type for item in conversations.items.list(id, order="asc")]
        called = ["message", "function_call", "function_call_output", "message"]
        self.assertEqual(kinds, ["message"] * 4 + called)
        with self.assertRaises(openai.BadRequestError) as caught:
            responses.create(model="echo", input="x", conversation=id, previous_response_id=first.id)
        self.assertEqual(caught.exception.param, "previous_response_id")
        with self.assertRaises(openai.NotFoundError):
            responses.create(model="echo", input="x", conversation="conv_1")

    @inLoop
    async def test_async(self) -> None:
        """
        The asynchronous client too.
        """
        async with self.newAsyncClient() as client:
            id = (await client.conversations.create(items=[USER])).id
            first = await client.responses.create(model="echo", input="two", conversation=id)
            self.assertEqual(first.output_text, "two")
            items = [item async for item in client.conversations.items.list(id, order="asc")]
            self.assertEqual(len(items), 3)
            await client.conversations.items.delete(str(items[0].id), conversation_id=id)
            await client.conversations.update(id, metadata={"a": "b"})
            self.assertEqual((await client.conversations.retrieve(id)).metadata, {"a": "b"})
            self.assertTrue((await client.conversations.delete(id)).deleted)

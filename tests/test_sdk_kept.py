"""
What is kept of chat completions, and what is told of inputs, with the official
C{openai} package over real sockets.
"""

from __future__ import annotations

from typing import Any

import openai

from tests.serving import ServingCase, inLoop, inThread


class KeptChatTests(ServingCase):
    """
    The package's calls for stored completions.
    """

    @inThread
    def test_storage(self) -> None:
        """
        Kept, given, listed, changed and deleted, each in the package's types.
        """
        completions = self.client.chat.completions
        said = completions.create(
            model="echo",
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a b"}],
            store=True,
            metadata={"topic": "letters"},
        )
        found = completions.retrieve(said.id)
        self.assertEqual((found.choices, found.metadata), (said.choices, {"topic": "letters"}))
        messages = list(completions.messages.list(said.id, limit=1))
        self.assertEqual([message.content for message in messages], ["Be brief.", "a b"])
        self.assertEqual([message.id for message in messages], [f"{said.id}-0", f"{said.id}-1"])
        (last,) = completions.messages.list(said.id, after=messages[0].id, order="asc")
        self.assertEqual(last, messages[1])
        changed = completions.update(said.id, metadata={"topic": "words"})
        self.assertEqual(changed.metadata, {"topic": "words"})
        self.assertEqual(completions.retrieve(said.id), changed)
        deleted = completions.delete(said.id)
        self.assertEqual((deleted.id, deleted.deleted), (said.id, True))
        self.assertRaises(openai.NotFoundError, completions.retrieve, said.id)

    @inThread
    def test_list(self) -> None:
        """
        The package goes through all pages; filters and order are heeded. A
        stream is kept too.
        """
        completions = self.client.chat.completions
        ids = []
        for number in range(5):
            with completions.create(
                model="echo",
                messages=[{"role": "user", "content": "x"}],
                store=True,
                stream=True,
                metadata={"even": str(number % 2 == 0), "n": str(number)},
            ) as stream:
                ids.append({chunk.id for chunk in stream}.pop())
        self.assertEqual([each.id for each in completions.list(limit=2)], ids)
        self.assertEqual([each.id for each in completions.list(limit=2, order="desc")], ids[::-1])
        even = completions.list(limit=2, metadata={"even": "True"}, model="echo")
        self.assertEqual([each.id for each in even], ids[::2])
        self.assertEqual(list(completions.list(model="other")), [])

    @inLoop
    async def test_async(self) -> None:
        """
        The asynchronous client does the same.
        """
        async with self.newAsyncClient() as client:
            completions = client.chat.completions
            said = await completions.create(
                model="echo", messages=[{"role": "user", "content": "a b"}], store=True
            )
            await completions.update(said.id, metadata={"a": "b"})
            (found,) = [each async for each in await completions.list(metadata={"a": "b"})]
            self.assertEqual((found.id, found.choices), (said.id, said.choices))
            (message,) = [each async for each in await completions.messages.list(said.id)]
            self.assertEqual(message.content, "a b")
            self.assertTrue((await completions.delete(said.id)).deleted)
            self.assertEqual([each async for each in completions.list()], [])


class InputTests(ServingCase):
    """
    Inputs that are counted and compacted.
    """

    @inThread
    def test_count(self) -> None:
        """
        In the package's type, and said to be an estimate.
        """
        raw = self.client.responses.input_tokens.with_raw_response.count(model="echo", input="x" * 40)
        self.assertEqual((raw.parse().input_tokens, raw.headers["x-hum-usage"]), (10, "estimated"))
        counted = self.client.responses.input_tokens.count(
            input=[{"role": "user", "content": "x"}], instructions="Be brief.", truncation="auto"
        )
        self.assertEqual(counted.object, "response.input_tokens")

    @inThread
    def test_compact(self) -> None:
        """
        What it gives is the input to go on from.
        """
        responses = self.client.responses
        history: Any = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "yes"}]
        compacted = responses.compact(model="echo", input=history, instructions="Be brief.")
        (item,) = compacted.output
        assert item.type == "compaction"
        self.assertEqual(compacted.object, "response.compaction")
        shown: Any = item.model_dump(exclude_none=True)
        for given in ({"input": [shown, history[0]]}, {"input": [*compacted.output, history[0]]}):
            response = responses.create(model="echo", **given)  # type: ignore[call-overload]
            self.assertEqual(response.output_text, "one")
        again = responses.compact(model="echo", previous_response_id=response.id)
        self.assertEqual(again.output[0].type, "compaction")
        shown["encrypted_content"] += "x"
        with self.assertRaises(openai.BadRequestError) as caught:
            responses.create(model="echo", input=[shown, history[0]])
        self.assertEqual(caught.exception.param, "input[0].encrypted_content")

    @inLoop
    async def test_async(self) -> None:
        """
        The asynchronous client does the same.
        """
        async with self.newAsyncClient() as client:
            counted = await client.responses.input_tokens.count(model="echo", input="x" * 40)
            self.assertEqual(counted.input_tokens, 10)
            compacted = await client.responses.compact(model="echo", input="one")
            items: Any = [*compacted.output, {"role": "user", "content": "two"}]
            response = await client.responses.create(model="echo", input=items)
            self.assertEqual(response.output_text, "two")

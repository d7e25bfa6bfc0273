"""
What is kept of chat completions, and what is told of inputs, with the official
C{openai} package over real sockets.
"""

from __future__ import annotations

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

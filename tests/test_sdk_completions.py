"""
Legacy completions of the official C{openai} package, over real sockets.
"""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types import Completion

from tests.serving import ServingCase, inLoop, inThread

FAILING = "#script " + json.dumps([{"result_error": {"message": "no"}}])


class CompletionTests(ServingCase):
    """
    C{client.completions.create}.
    """

    @inThread
    def test_create(self) -> None:
        """
        One prompt, every field of the type that the package promises.
        """
        completion = self.client.completions.create(model="echo", prompt="hello there")
        self.assertIsInstance(completion, Completion)
        self.assertEqual((completion.object, completion.model), ("text_completion", "echo"))
        self.assertTrue(completion.id.startswith("cmpl-"))
        (choice,) = completion.choices
        self.assertEqual((choice.index, choice.text, choice.finish_reason), (0, "hello there", "stop"))
        self.assertIsNone(choice.logprobs)
        usage = completion.usage
        assert usage is not None
        self.assertEqual(usage.prompt_tokens + usage.completion_tokens, usage.total_tokens)

    @inThread
    def test_severalPrompts(self) -> None:
        """
        Choices in the order of the prompts, with every option.
        """
        options: Any = {
            "best_of": 1,
            "echo": True,
            "frequency_penalty": 0,
            "logit_bias": {"50256": -100},
            "max_tokens": 7,
            "n": 1,
            "presence_penalty": 0,
            "seed": 1,
            "stop": ["four"],
            "suffix": "the end",
            "temperature": 0,
            "top_p": 1,
            "user": "ann",
        }
        raw = self.client.completions.with_raw_response.create(
            model="echo", prompt=["one two", "three four"], **options
        )
        completion = raw.parse()
        texts = [(choice.index, choice.text) for choice in completion.choices]
        self.assertEqual(texts, [(0, "one twoone two"), (1, "three fourthree ")])
        self.assertEqual(set(raw.headers["x-hum-ignored"].split(",")), {"logit_bias", "seed", "user"})

    @inThread
    def test_stream(self) -> None:
        """
        Chunks of text, the reason, the usage.
        """
        stream = self.client.completions.create(
            model="echo", prompt=["one two", "three"], stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
        said = [(choice.index, choice.text) for chunk in chunks for choice in chunk.choices]
        texts = ["".join(text for at, text in said if at == index) for index in (0, 1)]
        self.assertEqual(texts, ["one two", "three"])
        assert last.usage is not None
        self.assertEqual((last.choices, last.usage.total_tokens > 0), ([], True))

    @inThread
    def test_errors(self) -> None:
        """
        The package's own exceptions.
        """
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(model="echo", prompt=[1, 2, 3])
        self.assertEqual((caught.exception.code, caught.exception.param), ("unsupported_value", "prompt"))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(model="echo", prompt="a", logprobs=5)
        self.assertEqual(caught.exception.param, "logprobs")
        with self.assertRaises(openai.InternalServerError):
            self.client.completions.create(model="script", prompt=["a", FAILING])
        stream = self.client.completions.create(
            model="script", prompt=['#script [{"say": "a"}]', FAILING], stream=True
        )
        with self.assertRaises(openai.APIError):
            list(stream)

    @inLoop
    async def test_async(self) -> None:
        """
        The same, asynchronously.
        """
        async with self.newAsyncClient() as client:
            completion = await client.completions.create(model="echo", prompt="a b")
            self.assertEqual(completion.choices[0].text, "a b")
            stream = await client.completions.create(model="echo", prompt="a b", stream=True)
            self.assertEqual("".join([chunk.choices[0].text async for chunk in stream]), "a b")

"""
The official C{openai} package as a client of the running server, over real
sockets: what it returns and what it raises.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from openai_server.embedded.models import Model, ModelPrompt
from openai_server.embedded.playback import Step
from tests.serving import ServingCase, inLoop, inThread, reasonsOf, said, script, textOf, user


class Place(BaseModel):
    """
    What structured answers are parsed into.
    """

    city: str
    people: int


#: The same as a schema.
PLACE: Any = {
    "type": "json_schema",
    "json_schema": {"name": "place", "strict": True, "schema": Place.model_json_schema()},
}


class AnswerTests(ServingCase):
    """
    Whole answers.
    """

    @inThread
    def test_create(self) -> None:
        """
        One completion, every field of the type that the package promises.
        """
        completion = self.client.chat.completions.create(model="echo", messages=user("hello there"))
        self.assertIsInstance(completion, ChatCompletion)
        self.assertEqual((completion.object, completion.model), ("chat.completion", "echo"))
        self.assertTrue(completion.id.startswith("chatcmpl-"))
        self.assertIsInstance(completion.created, int)
        (choice,) = completion.choices
        self.assertEqual((choice.index, choice.finish_reason, choice.logprobs), (0, "stop", None))
        self.assertEqual((choice.message.role, choice.message.content), ("assistant", "hello there"))
        self.assertIsNone(choice.message.tool_calls)
        usage = completion.usage
        assert usage is not None
        self.assertEqual(usage.prompt_tokens + usage.completion_tokens, usage.total_tokens)
        self.assertRegex(completion._request_id or "", r".{8,}")

    @inThread
    def test_systemPromptAndHistory(self) -> None:
        """
        Roles of all kinds arrive; the answer is to the last message.
        """
        messages: Any = [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "three", "name": "ann"},
        ]
        completion = self.client.chat.completions.create(model="echo", messages=messages)
        self.assertEqual(completion.choices[0].message.content, "three")
        (prompt,) = self.sent("prompt")
        self.assertIn("Be brief.", prompt["systemPrompt"])
        for words in ("one", "two", "yes"):
            self.assertIn(words, prompt["content"])

    @inThread
    def test_everyTextSurvives(self) -> None:
        """
        Whatever Unicode and JSON can do to a text on its way.
        """
        text = 'é 漢字 🎈 \u2028\u2029\u0085 \x00 "quoted" \\u00e9 \r\n\t data: [DONE]\n\nend'
        completion = self.client.chat.completions.create(model="echo", messages=user(text))
        self.assertEqual(completion.choices[0].message.content, text)
        stream = self.client.chat.completions.create(model="echo", messages=user(text), stream=True)
        self.assertEqual(textOf(list(stream)), text)

    @inThread
    def test_rawResponse(self) -> None:
        """
        The headers of the session and of the request, beside the answer.
        """
        raw = self.client.chat.completions.with_raw_response.create(
            model="echo", messages=user("hi"), seed=7, logit_bias={"1": 1}
        )
        self.assertEqual(raw.status_code, 200)
        self.assertEqual(raw.headers["content-type"], "application/json")
        self.assertEqual(raw.headers["x-hum-session"], "new")
        self.assertEqual(set(raw.headers["x-hum-ignored"].split(",")), {"seed", "logit_bias"})
        self.assertRegex(raw.headers["openai-processing-ms"], r"^\d+$")
        completion = raw.parse()
        self.assertEqual(completion.choices[0].message.content, "hi")
        self.assertEqual(raw.headers["x-request-id"], raw.request_id)
        self.assertEqual(completion._request_id, raw.request_id)

    @inThread
    def test_azure(self) -> None:
        """
        Azure's client, whose paths name the model: with its deployment and
        without one, and in Azure's newer way.
        """
        server = self.serving.url.removesuffix("/v1")
        azure: Any = {"api_version": "2024-10-21", "api_key": "any", "max_retries": 0}
        for client, model in (
            (openai.AzureOpenAI(azure_endpoint=server, **azure), "echo"),
            (openai.AzureOpenAI(azure_endpoint=server, azure_deployment="echo", **azure), "whatever"),
            (openai.OpenAI(base_url=f"{server}/openai/v1/", api_key="any"), "echo"),
        ):
            with client:
                completion = client.chat.completions.create(model=model, messages=user("hello there"))
                said = completion.choices[0].message.content
                self.assertEqual((completion.model, said), ("echo", "hello there"))
        with openai.AzureOpenAI(azure_endpoint=server, **azure) as client:
            self.assertIn("echo", [each.id for each in client.models.list()])

    @inThread
    def test_ownRequestId(self) -> None:
        """
        A client's own request id is kept, on errors too.
        """
        own = {"x-request-id": "trace-4711"}
        completion = self.client.chat.completions.create(model="echo", messages=user("x"), extra_headers=own)
        self.assertEqual(completion._request_id, "trace-4711")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model="echo", messages=[], extra_headers=own)
        self.assertEqual(caught.exception.request_id, "trace-4711")

    @inThread
    def test_sessionGoesOn(self) -> None:
        """
        The transcript that the client gives back is known, and only what is
        new is sent on.
        """
        messages = user("first words")
        answer = self.client.chat.completions.create(model="echo", messages=messages)
        messages += [answer.choices[0].message.to_dict(), *user("second words")]
        raw = self.client.chat.completions.with_raw_response.create(model="echo", messages=messages)
        self.assertEqual(raw.headers["x-hum-session"], "continued")
        self.assertEqual(raw.parse().choices[0].message.content, "second words")
        first, second = self.sent("prompt")
        self.assertEqual((first["sid"], second["content"]), (second["sid"], "second words"))

    @inThread
    def test_reasoning(self) -> None:
        """
        What the model thought, in the field that clients look for.
        """
        asked = script({"think": "let me see"}, {"say": "done"})
        completion = self.client.chat.completions.create(model="script", messages=asked)
        message: Any = completion.choices[0].message
        self.assertEqual((message.reasoning_content, message.content), ("let me see", "done"))
        chunks = list(self.client.chat.completions.create(model="script", messages=asked, stream=True))
        deltas = [choice.delta.to_dict() for chunk in chunks for choice in chunk.choices]
        thought = "".join(str(delta.get("reasoning_content", "")) for delta in deltas)
        self.assertEqual((thought, textOf(chunks)), ("let me see", "done"))

    @inThread
    def test_usageThatTheWorkerDoesNotTell(self) -> None:
        """
        The answer has an estimate, and a header says so.
        """
        asked = script({"usage": None}, {"say": "x"})
        raw = self.client.chat.completions.with_raw_response.create(model="script", messages=asked)
        self.assertEqual(raw.headers["x-hum-usage"], "estimated")
        usage = raw.parse().usage
        assert usage is not None
        self.assertEqual(usage.completion_tokens, 1)

    @inThread
    def test_stop(self) -> None:
        """
        The answer ends before the stop string.
        """
        completion = self.client.chat.completions.create(
            model="echo", messages=user("one two three"), stop=["wo th"]
        )
        (choice,) = completion.choices
        self.assertEqual((choice.message.content, choice.finish_reason), ("one t", "stop"))


class ParseTests(ServingCase):
    """
    C{.parse()} and its schema.
    """

    def models(self) -> Mapping[str, Model]:
        """
        Also C{schooled}, who gives a valid answer when told to, and
        C{stubborn}, who does not.
        """

        def schooled(question: ModelPrompt) -> Sequence[Step]:
            isTold = "not valid" in question.content
            return said('{"city": "Ulm", "people": 3}' if isTold else '{"city": "Ulm"}')

        return {"schooled": schooled, "stubborn": lambda question: said('{"city": "Ulm"}')}

    def ask(self, *steps: Any) -> Any:
        """
        A parsed answer of a model that does these steps.
        """
        return self.client.chat.completions.parse(
            model="script", messages=script(*steps), response_format=Place
        )

    @inThread
    def test_parse(self) -> None:
        """
        The answer is an object of the class; a fence around it is gone.
        """
        for text in ('{"city": "Ulm", "people": 3}', '```json\n{"city": "Ulm", "people": 3}\n```'):
            (choice,) = self.ask({"say": text}).choices
            self.assertEqual(choice.message.parsed, Place(city="Ulm", people=3))

    @inThread
    def test_parseStream(self) -> None:
        """
        The same from the stream's own accumulation.
        """
        asked = script({"say": '```json\n{"city": "Ulm", "people": 3}\n```', "parts": 11})
        with self.client.chat.completions.stream(
            model="script", messages=asked, response_format=Place
        ) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion()
        self.assertIn("content.delta", kinds)
        self.assertEqual(final.choices[0].message.parsed, Place(city="Ulm", people=3))

    @inThread
    def test_repaired(self) -> None:
        """
        An answer that is not valid is asked for again, on the same session;
        the header says what came of it.
        """
        for model, verdict in (("schooled", "repaired"), ("stubborn", "invalid")):
            raw = self.client.chat.completions.with_raw_response.create(
                model=model, messages=user("x"), response_format=PLACE
            )
            self.assertEqual(raw.headers["x-hum-schema"], verdict)
            first, second = self.sent("prompt")[-2:]
            self.assertEqual(first["sid"], second["sid"])
            valid = '{"city": "Ulm", "people": 3}'
            content = raw.parse().choices[0].message.content
            self.assertEqual(content == valid, verdict == "repaired")

    @inThread
    def test_cutByLength(self) -> None:
        """
        The package refuses to parse half an answer.
        """
        with self.assertRaises(openai.LengthFinishReasonError):
            self.ask({"finish": {"finishReason": "max_tokens"}}, {"say": '{"city": "U'})

    @inThread
    def test_refused(self) -> None:
        """
        And one that was filtered.
        """
        with self.assertRaises(openai.ContentFilterFinishReasonError):
            self.ask({"finish": {"finishReason": "refusal"}}, {"say": "I would rather not."})


class StreamTests(ServingCase):
    """
    Streamed answers that come to their end.
    """

    @inThread
    def test_chunks(self) -> None:
        """
        A role once, text, one finish, and no word of usage; the same id and
        time in all of them.
        """
        stream = self.client.chat.completions.create(
            model="echo", messages=user("a few words here"), stream=True
        )
        self.assertEqual(stream.response.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(stream.response.headers["x-hum-session"], "new")
        chunks = list(stream)
        self.assertEqual({type(chunk) for chunk in chunks}, {ChatCompletionChunk})
        self.assertEqual(
            {(chunk.id, chunk.created, chunk.object, chunk.model) for chunk in chunks},
            {(chunks[0].id, chunks[0].created, "chat.completion.chunk", "echo")},
        )
        roles = [chunk.choices[0].delta.role for chunk in chunks]
        self.assertEqual(roles, ["assistant", *[None] * (len(chunks) - 1)])
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("a few words here", ["stop"]))
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")
        self.assertEqual([chunk.usage for chunk in chunks], [None] * len(chunks))

    @inThread
    def test_usage(self) -> None:
        """
        When asked for: in one more chunk, which has no choices.
        """
        chunks = list(
            self.client.chat.completions.create(
                model="echo", messages=user("x"), stream=True, stream_options={"include_usage": True}
            )
        )
        self.assertEqual(chunks[-1].choices, [])
        usage = chunks[-1].usage
        assert usage is not None
        self.assertEqual(usage.prompt_tokens + usage.completion_tokens, usage.total_tokens)
        self.assertEqual([chunk.usage for chunk in chunks[:-1]], [None] * (len(chunks) - 1))

    @inThread
    def test_textComesAsItIsSaid(self) -> None:
        """
        The first words are here while the model is still held back.
        """
        stream = iter(self.client.chat.completions.create(model="gated", messages=user("x"), stream=True))
        chunks = [next(stream)]
        while textOf(chunks) != "one ":
            chunks.append(next(stream))
        self.gate.isOpen = True
        chunks += stream
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("one two", ["stop"]))

    @inThread
    def test_streamHelper(self) -> None:
        """
        C{.stream()} tells deltas and the whole, and puts a completion
        together.
        """
        with self.client.chat.completions.stream(
            model="echo", messages=user("alpha beta gamma"), stream_options={"include_usage": True}
        ) as stream:
            events = list(stream)
            final = stream.get_final_completion()
        deltas = [event.delta for event in events if event.type == "content.delta"]
        done = [event.content for event in events if event.type == "content.done"]
        self.assertEqual(("".join(deltas), done), ("alpha beta gamma", ["alpha beta gamma"]))
        (choice,) = final.choices
        self.assertEqual(
            (choice.message.role, choice.message.content, choice.finish_reason),
            ("assistant", "alpha beta gamma", "stop"),
        )
        assert final.usage is not None
        self.assertGreater(final.usage.total_tokens, 0)

    @inThread
    def test_keepAlive(self) -> None:
        """
        The package takes a sign of life for an empty delta.
        """
        stream = self.client.chat.completions.create(model="gated", messages=user("x"), stream=True)
        chunks: list[ChatCompletionChunk] = []
        for chunk in stream:
            chunks.append(chunk)
            if textOf(chunks) == "one " and len(chunks) < 5:
                self.inReactor(self.serving.clock.skip, 16)
            self.gate.isOpen = len(chunks) >= 5
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("one two", ["stop"]))


class AsyncClientTests(ServingCase):
    """
    C{AsyncOpenAI}.
    """

    environment = {"MAX_TURNS": "0"}

    @inLoop
    async def test_allWays(self) -> None:
        """
        Whole, streamed, with the helper, parsed.
        """
        async with self.newAsyncClient() as client:
            completion = await client.chat.completions.create(model="echo", messages=user("hello"))
            self.assertEqual(completion.choices[0].message.content, "hello")
            stream = await client.chat.completions.create(
                model="echo", messages=user("hi there"), stream=True
            )
            chunks = [chunk async for chunk in stream]
            self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("hi there", ["stop"]))
            async with client.chat.completions.stream(model="echo", messages=user("alpha beta")) as helped:
                events = [event.type async for event in helped]
                final = await helped.get_final_completion()
            self.assertIn("content.done", events)
            self.assertEqual(final.choices[0].message.content, "alpha beta")
            parsed = await client.chat.completions.parse(
                model="echo", messages=user('{"city": "Ulm", "people": 3}'), response_format=Place
            )
            self.assertEqual(parsed.choices[0].message.parsed, Place(city="Ulm", people=3))
            self.assertIn("echo", [model.id async for model in client.models.list()])
            with self.assertRaises(openai.NotFoundError):
                await client.models.retrieve("no/such")

    @inLoop
    async def test_manyAtOnce(self) -> None:
        """
        Thirty streams at a time: each reads its own text and no other.
        """

        async def ask(number: int) -> tuple[str, list[str]]:
            text = " ".join(f"s{number}w{place}" for place in range(40))
            stream = await client.chat.completions.create(model="echo", messages=user(text), stream=True)
            chunks = [chunk async for chunk in stream]
            self.assertEqual(textOf(chunks), text)
            return chunks[0].id, reasonsOf(chunks)

        async with self.newAsyncClient() as client:
            answers = await asyncio.gather(*map(ask, range(30)))
        self.assertEqual(len({id for id, _ in answers}), 30)
        self.assertEqual({tuple(reasons) for _, reasons in answers}, {("stop",)})

    @inLoop
    async def test_cancelledTask(self) -> None:
        """
        A task that is cancelled while it waits for its answer takes the turn
        with it, once no retry can come any more.
        """
        async with self.newAsyncClient() as client:
            asking = asyncio.ensure_future(client.chat.completions.create(model="late", messages=user("x")))
            await asyncio.to_thread(self.inReactor, self.serving.watch.whenSent, "prompt")
            asking.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await asking
            await asyncio.to_thread(self.inReactor, self.serving.whenEnded, "cl-gone")
            self.assertEqual(self.sent("cancel"), [])
            await asyncio.to_thread(self.inReactor, self.serving.clock.skip, 2.1)
            await asyncio.to_thread(self.whenCancelled)


class ImageTests(ServingCase):
    """
    Images and files that come with a message.
    """

    def models(self) -> Mapping[str, Model]:
        """
        C{looking} reads the files that its prompt names, as a real worker can,
        and says what is in them.
        """

        def looking(question: ModelPrompt) -> Sequence[Step]:
            self.paths = [Path(found) for found in re.findall(r" file (/[^],]+)", question.content)]
            return said("; ".join(path.read_bytes().decode("latin-1") for path in self.paths))

        return {"looking": looking}

    @inThread
    def test_imageAndFile(self) -> None:
        """
        Both lie in files of their own while the turn runs, and are in the
        prompt; afterwards the files are gone.
        """
        image, text = b"\x89PNG\r\n\x1a\n and a picture", b"a note"
        encoded = [base64.b64encode(data).decode() for data in (image, text)]
        note = {"filename": "note.txt", "file_data": f"data:text/plain;base64,{encoded[1]}"}
        content = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded[0]}"}},
            {"type": "file", "file": note},
        ]
        completion = self.client.chat.completions.create(model="looking", messages=user(content))
        seen = completion.choices[0].message.content or ""
        self.assertEqual(seen.encode("latin-1"), image + b"; " + text)
        (prompt,) = self.sent("prompt")
        self.assertEqual(
            [(each["kind"], each["mediaType"], each["data"]) for each in prompt["attachments"]],
            [("image", "image/png", encoded[0]), ("file", "text/plain", encoded[1])],
        )
        self.assertIn("What is this?", prompt["content"])
        self.assertEqual([path.suffix for path in self.paths], [".png", ".txt"])
        # The reactor's turn in which the answer left has to end first.
        self.inReactor(lambda: None)
        self.assertEqual([path.exists() for path in self.paths], [False, False])

    @inThread
    def test_imageThatIsNone(self) -> None:
        """
        The error names the part.
        """
        url = "data:image/png;base64," + base64.b64encode(b"a drawing").decode()
        content = [{"type": "image_url", "image_url": {"url": url}}]
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model="looking", messages=user(content))
        self.assertEqual(caught.exception.param, "messages[0].content[0].image_url.url")


class ModelsTests(ServingCase):
    """
    C{models.list()} and C{models.retrieve()}.
    """

    environment = {"MODELS": "vendor/family/large v2,plain"}

    @inThread
    def test_list(self) -> None:
        """
        Those of the settings and of the worker, all with the fields of the
        type.
        """
        models = list(self.client.models.list())
        self.assertEqual([model.id for model in models[:2]], ["vendor/family/large v2", "plain"])
        self.assertIn("echo", [model.id for model in models])
        for model in models:
            self.assertEqual(model.object, "model")
            self.assertIsInstance(model.created, int)
            self.assertIsInstance(model.owned_by, str)

    @inThread
    def test_retrieve(self) -> None:
        """
        An id with slashes too, which the package escapes.
        """
        for id in ("echo", "vendor/family/large v2"):
            self.assertEqual(self.client.models.retrieve(id).id, id)
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.models.retrieve("vendor/none")
        self.assertEqual(caught.exception.code, "model_not_found")

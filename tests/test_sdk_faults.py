"""
The official C{openai} package as a client of a server that refuses, fails,
stalls or stops: what it raises, what it asks again, and what it leaves behind.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.program import Program, launch
from tests.serving import PATIENCE, ServingCase, inLoop, inThread, reasonsOf, script, textOf, user
from tests.support import AsyncCase


class ErrorTests(ServingCase):
    """
    What the server refuses becomes the exception that the package has for it.
    """

    environment = {"BODY_LIMIT": "100000"}

    def failing(self, model: str = "echo", messages: Any = None, **fields: Any) -> openai.APIStatusError:
        """
        The error of a completion, which the same request as a stream has too.
        """
        errors = []
        messages = user("x") if messages is None else messages
        for isStream in (False, True):
            with self.assertRaises(openai.APIStatusError) as caught:
                self.client.chat.completions.create(model=model, messages=messages, stream=isStream, **fields)
            errors.append(caught.exception)
        whole, streamed = errors
        self.assertEqual((type(whole), whole.body), (type(streamed), streamed.body))
        self.assertEqual(set(whole.body), {"message", "type", "param", "code"})  # type: ignore[call-overload]
        self.assertEqual(whole.request_id, whole.response.headers["x-request-id"])
        return whole

    @inThread
    def test_badRequests(self) -> None:
        """
        400 with the path of the field.
        """
        for fields, code, param in (
            ({"temperature": 3}, "invalid_value", "temperature"),
            ({"temperature": "hot"}, "invalid_type", "temperature"),
            ({"messages": []}, "invalid_value", "messages"),
            ({"messages": [{"role": "wizard", "content": "x"}]}, "invalid_value", "messages[0].role"),
            ({"n": 2}, "unsupported_value", "n"),
            ({"logprobs": True}, "unsupported_parameter", "logprobs"),
        ):
            error = self.failing(**fields)  # type: ignore[arg-type]
            self.assertIsInstance(error, openai.BadRequestError)
            self.assertEqual((error.code, error.param), (code, param))
            self.assertEqual(error.type, "invalid_request_error")
        self.assertEqual(self.sent("prompt"), [])

    @inThread
    def test_promptTooLong(self) -> None:
        """
        The worker's words for it, as the code that agents compact on.
        """
        error = self.failing("script", script({"result_error": "Prompt is too long"}))
        self.assertIsInstance(error, openai.BadRequestError)
        self.assertEqual(error.code, "context_length_exceeded")

    @inThread
    def test_unknownModel(self) -> None:
        """
        404, as for OpenAI's own.
        """
        error = self.failing("no-such-model")
        self.assertIsInstance(error, openai.NotFoundError)
        self.assertEqual(error.code, "model_not_found")
        self.assertIn("no-such-model", error.message)

    @inThread
    def test_unsupportedEndpoints(self) -> None:
        """
        404 with a sentence, and not a status that the package retries.
        """
        for call in (
            lambda: self.client.embeddings.create(model="echo", input="x"),
            lambda: self.client.images.generate(prompt="x"),
            self.client.files.list,
            lambda: self.client.moderations.create(input="x"),
        ):
            with self.assertRaises(openai.NotFoundError) as caught:
                call()  # type: ignore[no-untyped-call]
            self.assertEqual(caught.exception.code, "unsupported_endpoint")

    @inThread
    def test_foreignPage(self) -> None:
        """
        403 for a request that a page of another origin makes.
        """
        error = self.failing(extra_headers={"Origin": "https://example.org"})
        self.assertIsInstance(error, openai.PermissionDeniedError)
        self.assertEqual(error.code, "origin_not_allowed")

    @inThread
    def test_tooLarge(self) -> None:
        """
        413, although the body was not read.
        """
        error = self.failing(messages=user("x" * 200_000))
        self.assertEqual((error.status_code, error.code), (413, "request_too_large"))

    @inThread
    def test_workerFailed(self) -> None:
        """
        502 with the worker's words; it may have acted, so nobody is to retry.
        """
        error = self.failing("script", script({"result_error": "the dog ate it"}))
        self.assertIsInstance(error, openai.InternalServerError)
        self.assertEqual((error.status_code, error.code), (502, "worker_error"))
        self.assertIn("the dog ate it", error.message)

    @inThread
    def test_rateLimited(self) -> None:
        """
        The worker's own limit is the package's C{RateLimitError}.
        """
        limit = "API Error: 429 rate_limit_error: slow down"
        error = self.failing("script", script({"result_error": limit}))
        self.assertIsInstance(error, openai.RateLimitError)

    @inThread
    def test_keyUsedForAnotherBody(self) -> None:
        """
        409, and no retry would help.
        """
        key = {"Idempotency-Key": "one"}
        self.client.chat.completions.create(model="echo", messages=user("x"), extra_headers=key)
        error = self.failing(messages=user("y"), extra_headers=key)
        self.assertIsInstance(error, openai.ConflictError)
        self.assertEqual(error.code, "idempotency_key_reused")
        self.assertEqual(error.response.headers["x-should-retry"], "false")

    @inThread
    def test_noDaemon(self) -> None:
        """
        503 at once.
        """
        self.inReactor(self.serving.daemon.crash)
        self.inReactor(self.serving.whenDisconnected)
        error = self.failing()
        self.assertIsInstance(error, openai.InternalServerError)
        self.assertEqual((error.status_code, error.code), (503, "daemon_unavailable"))
        self.assertEqual(error.response.headers["retry-after"], "1")


class KeyTests(ServingCase):
    """
    A server with a key.
    """

    environment = {"API_KEY": "right-key"}

    @inThread
    def test_key(self) -> None:
        """
        The right one opens, another one is C{AuthenticationError} everywhere.
        """
        right, wrong = self.newClient(api_key="right-key"), self.newClient(api_key="wrong-key")
        completion = right.chat.completions.create(model="echo", messages=user("x"))
        self.assertEqual(completion.choices[0].message.content, "x")
        for call in (
            wrong.models.list,
            lambda: wrong.chat.completions.create(model="echo", messages=user("x")),
            lambda: wrong.chat.completions.create(model="echo", messages=user("x"), stream=True),
        ):
            with self.assertRaises(openai.AuthenticationError) as caught:
                call()  # type: ignore[no-untyped-call]
            self.assertEqual(caught.exception.code, "invalid_api_key")
            self.assertNotIn("-key", caught.exception.message)


class FullLineTests(ServingCase):
    """
    A server with room for one turn and nobody who waits.
    """

    environment = {"MAX_TURNS": "1", "QUEUE_LENGTH": "0"}

    @inThread
    def test_full(self) -> None:
        """
        429 with the time after which to ask again.
        """
        with self.client.chat.completions.create(model="gated", messages=user("x"), stream=True) as stream:
            chunks = [next(stream)]
            with self.assertRaises(openai.RateLimitError) as caught:
                self.client.chat.completions.create(model="echo", messages=user("x"))
            self.gate.isOpen = True
            chunks += stream
        self.assertEqual(caught.exception.code, "server_is_overloaded")
        self.assertGreater(int(caught.exception.response.headers["retry-after"]), 0)
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("one two", ["stop"]))


class CutTests(ServingCase):
    """
    An answer that cannot be completed raises, and never looks complete.
    """

    def cut(self, fault: Callable[[], object], code: str) -> None:
        """
        Do this to the server in the middle of a stream, which is to raise an
        error with this code.
        """
        stream = self.client.chat.completions.create(model="gated", messages=user("x"), stream=True)
        chunks: list[ChatCompletionChunk] = []
        with self.assertRaises(openai.APIError) as caught:
            for chunk in stream:
                chunks.append(chunk)
                if textOf(chunks) == "one ":
                    self.inReactor(fault)
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("one ", []))
        error = caught.exception
        self.assertEqual((type(error), error.code), (openai.APIError, code))
        self.assertEqual(set(error.body), {"message", "type", "param", "code"})  # type: ignore[call-overload]

    @inThread
    def test_workerDies(self) -> None:
        """
        Nobody tells us but the registry file.
        """
        self.cut(self.serving.daemon.killWorkers, "worker_lost")
        self.inReactor(self.serving.whenEnded, "up-lost")

    @inThread
    def test_daemonDies(self) -> None:
        """
        The connection is gone, and the answer with it.
        """
        self.cut(self.serving.daemon.crash, "daemon_lost")

    @inThread
    def test_workerFails(self) -> None:
        """
        The worker's own words reach the caller in the middle of the stream.
        """
        asked = script({"say": "one two three"}, {"result_error": "the dog ate the rest"})
        stream = self.client.chat.completions.create(model="script", messages=asked, stream=True)
        chunks: list[ChatCompletionChunk] = []
        with self.assertRaisesRegex(openai.APIError, "the dog ate the rest"):
            chunks.extend(stream)
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("one two three", []))

    @inThread
    def test_processEnds(self) -> None:
        """
        Also with status 0: what it did not say is missing.
        """
        stream = self.client.chat.completions.create(
            model="script", messages=script({"say": "one"}, {"exit": 0}), stream=True
        )
        with self.assertRaises(openai.APIError):
            list(stream)

    @inThread
    def test_streamHelper(self) -> None:
        """
        C{.stream()} raises too, and has no completion to give.
        """
        with self.client.chat.completions.stream(model="gated", messages=user("x")) as stream:
            with self.assertRaises(openai.APIError):
                for event in stream:
                    if event.type == "content.delta":
                        self.inReactor(self.serving.daemon.killWorkers)
            self.assertIsNone(stream.current_completion_snapshot.choices[0].finish_reason)

    @inThread
    def test_bytes(self) -> None:
        """
        Whoever reads the bytes alone is told too: the body has no proper end,
        and the last event is the error.
        """
        asked = script({"say": "one two three"}, {"result_error": "the dog ate the rest"})
        lines: list[str] = []
        with (
            self.client.chat.completions.with_streaming_response.create(
                model="script", messages=asked, stream=True
            ) as response,
            self.assertRaises(httpx2.RemoteProtocolError),
        ):
            lines.extend(response.iter_lines())
        self.assertIn("the dog ate the rest", [line for line in lines if line][-1])
        self.assertNotIn("data: [DONE]", lines)

    @inThread
    def test_wholeAnswer(self) -> None:
        """
        502, and no part of the answer; nobody is to retry.
        """
        self.gate.reached.addCallback(lambda _: self.serving.daemon.killWorkers())
        with self.assertRaises(openai.InternalServerError) as caught:
            self.client.chat.completions.create(model="late", messages=user("x"))
        error = caught.exception
        self.assertEqual((error.status_code, error.code), (502, "worker_lost"))
        self.assertEqual(error.response.headers["x-should-retry"], "false")


class RetryTests(ServingCase):
    """
    What the package asks again by itself, and what not.
    """

    @inThread
    def test_daemonComesBack(self) -> None:
        """
        503 with C{Retry-After} is asked again after that time.
        """
        self.inReactor(self.serving.daemon.crash)
        self.inReactor(self.serving.whenDisconnected)
        refused = self.serving.whenEnded("up-down")
        refused.addCallback(lambda _: self.serving.daemon.comeBack())
        client = self.newClient(max_retries=4)
        completion = client.chat.completions.create(model="echo", messages=user("at last"))
        self.assertEqual(completion.choices[0].message.content, "at last")
        self.assertEqual(len(self.sent("prompt")), 1)
        self.assertEqual(self.serving.ends[0], "up-down")

    @inThread
    def test_workerMayHaveActed(self) -> None:
        """
        C{x-should-retry: false} is obeyed: one prompt, although the status is
        one that is retried.
        """
        client = self.newClient(max_retries=2)
        for asked in (
            script({"result_error": "half done"}),
            script({"say": "some text"}, {"result_error": "half done"}),
        ):
            before = len(self.sent("prompt"))
            with self.assertRaises(openai.InternalServerError) as caught:
                client.chat.completions.create(model="script", messages=asked)
            self.assertEqual(caught.exception.response.headers["x-should-retry"], "false")
            self.assertEqual(len(self.sent("prompt")), before + 1)

    @inThread
    def test_brokenStream(self) -> None:
        """
        A stream that had begun is not asked again.
        """
        client = self.newClient(max_retries=2)
        asked = script({"say": "some text"}, {"result_error": "half done"})
        with self.assertRaises(openai.APIError):
            list(client.chat.completions.create(model="script", messages=asked, stream=True))
        self.assertEqual(len(self.sent("prompt")), 1)

    @inThread
    def test_retryIsNotAskedTwice(self) -> None:
        """
        A client that gave up and asks again gets the answer of its first
        request: the model is asked once.
        """
        client = self.newClient(max_retries=1)
        left = self.serving.whenEnded("cl-gone")
        left.addCallback(lambda _: setattr(self.gate, "isOpen", True))
        completion = client.chat.completions.create(model="late", messages=user("x"), timeout=0.5)
        self.assertEqual(completion.choices[0].message.content, "late")
        self.assertEqual(len(self.sent("prompt")), 1)
        self.assertEqual(self.sent("cancel"), [])


class LeavingTests(ServingCase):
    """
    A client that goes away takes its turn with it.
    """

    def stream(self, **options: Any) -> Any:
        """
        A stream that has said its first words and is held back.
        """
        stream = self.client.chat.completions.create(
            model="gated", messages=user("x"), stream=True, **options
        )
        chunks: list[ChatCompletionChunk] = []
        while textOf(chunks) != "one ":
            chunks.append(next(stream))
        return stream

    @inThread
    def test_timeout(self) -> None:
        """
        The package gives up waiting for an answer: the turn is cancelled when
        no retry has come.
        """
        with self.assertRaises(openai.APITimeoutError):
            self.client.chat.completions.create(model="late", messages=user("x"), timeout=0.3)
        self.inReactor(self.serving.whenEnded, "cl-gone")
        self.assertEqual(self.sent("cancel"), [])
        self.inReactor(self.serving.clock.skip, 2.1)
        self.whenCancelled()

    @inThread
    def test_timeoutInAStream(self) -> None:
        """
        The same while a stream is silent; nobody retries that.
        """
        stream = self.stream(timeout=0.3)
        with self.assertRaises(openai.APITimeoutError):
            next(stream)
        self.whenCancelled()
        self.inReactor(self.serving.whenEnded, "cl-gone")

    @inThread
    def test_break(self) -> None:
        """
        Leaving the loop closes the stream, and cancels the turn at once.
        """
        with self.client.chat.completions.create(model="gated", messages=user("x"), stream=True) as stream:
            for _ in stream:
                break
        self.whenCancelled()
        (prompt,), (cancel,) = self.sent("prompt"), self.sent("cancel")
        self.assertEqual(cancel["sid"], prompt["sid"])

    @inThread
    def test_close(self) -> None:
        """
        So does closing the stream, or the client, and the helper's end.
        """
        self.stream().close()
        self.whenCancelled(1)
        held = self.stream()
        self.client.close()
        self.whenCancelled(2)
        del held
        self.client = self.newClient()
        with self.client.chat.completions.stream(model="gated", messages=user("x")) as helped:
            next(iter(helped))
        self.whenCancelled(3)

    @inLoop
    async def test_asyncBreak(self) -> None:
        """
        The same of a stream that is read in a loop of asyncio's.
        """
        async with self.newAsyncClient() as client:
            stream = await client.chat.completions.create(model="gated", messages=user("x"), stream=True)
            async with stream:
                async for _ in stream:
                    break
            await asyncio.to_thread(self.whenCancelled)

    @inThread
    def test_leavesAfterTheFinish(self) -> None:
        """
        Whoever stops reading at the finish has his answer: nothing is
        cancelled, and the session goes on.
        """
        messages = user("hello")
        for chunk in self.client.chat.completions.create(model="echo", messages=messages, stream=True):
            if chunk.choices[0].finish_reason:
                break
        self.inReactor(self.serving.whenEnded, "ok")
        messages += [{"role": "assistant", "content": "hello"}, *user("and more")]
        raw = self.client.chat.completions.with_raw_response.create(model="echo", messages=messages)
        self.assertEqual(raw.headers["x-hum-session"], "continued")
        self.assertEqual(self.sent("cancel"), [])


class StoppingTests(ServingCase):
    """
    The server stops while clients read.
    """

    environment = {"DRAIN_TIMEOUT": "5"}

    @inThread
    def test_drains(self) -> None:
        """
        A stream comes to its end; whoever comes now finds nobody.
        """
        stream = self.client.chat.completions.create(model="gated", messages=user("x"), stream=True)
        chunks = [next(stream)]
        stopped: list[Deferred[None]] = []
        self.inReactor(lambda: stopped.append(self.serving.stopService()))
        with self.assertRaises(openai.APIConnectionError):
            self.newClient().models.list()
        self.gate.isOpen = True
        chunks += stream
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), ("one two", ["stop"]))
        self.inReactor(lambda: stopped[0])
        self.assertEqual(self.serving.ends, ["ok"])

    @inThread
    def test_drainTimeIsOver(self) -> None:
        """
        A stream that does not end by itself is told so, and its turn is
        cancelled.
        """
        stream = self.client.chat.completions.create(model="gated", messages=user("x"), stream=True)
        next(stream)
        stopped: list[Deferred[None]] = []
        self.inReactor(lambda: stopped.append(self.serving.stopService()))
        self.inReactor(self.serving.clock.skip, 5.1)
        with self.assertRaises(openai.APIError) as caught:
            list(stream)
        self.assertEqual(caught.exception.code, "shutting_down")
        self.inReactor(lambda: stopped[0])
        self.whenCancelled()
        self.assertEqual(self.serving.ends, ["drain"])


class ProgramTests(AsyncCase):
    """
    C{twistd -n openai-server --embedded} as a process of its own.
    """

    async def start(self) -> Program:
        """
        The program, connected to its daemon.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        program = launch(self, folder, "--embedded", "--port", "0")
        await program.whenSaid("connected to the daemon")
        self.client = openai.OpenAI(
            base_url=f"{program.url}/v1",
            api_key="unused",
            max_retries=0,
            timeout=PATIENCE,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )
        self.addCleanup(self.client.close)
        return program

    def stream(self, messages: Any, **fields: Any) -> tuple[Any, list[ChatCompletionChunk]]:
        """
        A stream with its first chunk.
        """
        stream = self.client.chat.completions.create(messages=messages, stream=True, **fields)
        return stream, [next(stream)]

    async def test_interrupted(self) -> None:
        """
        It greets, it answers; Ctrl-C ends it, with status 0, and it leaves no
        file.
        """
        program = await self.start()
        greeting = "\n".join(program.lines)
        for words in (program.url, "echo", "tool-one", "long-text", "start humd"):
            self.assertIn(words, greeting)
        ask = self.client.chat.completions.create
        completion = await deferToThread(ask, model="echo", messages=user("hello"))
        self.assertEqual(completion.choices[0].message.content, "hello")
        program.signal(signal.SIGINT)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(program.errors, "")
        self.assertEqual(list(program.runtime.iterdir()), [])

    async def test_terminatedWhileItStreams(self) -> None:
        """
        SIGTERM: the stream comes to its end, new connections are refused, then
        the process ends with status 0.
        """
        program = await self.start()
        text = "word " * 40
        stream, chunks = await deferToThread(self.stream, user(text), model="echo")
        program.signal(signal.SIGTERM)
        await program.whenSaid("SIGTERM")
        refused = deferToThread(self.client.models.list)
        await self.assertFailure(refused, openai.APIConnectionError)
        chunks += await deferToThread(list, stream)
        self.assertEqual((textOf(chunks), reasonsOf(chunks)), (text, ["stop"]))
        self.assertEqual(await program.ended, 0)
        self.assertEqual(program.errors, "")

    async def test_terminatedTwice(self) -> None:
        """
        The second SIGTERM ends a stream that would go on, with an error; no
        traceback.
        """
        program = await self.start()
        stream, _ = await deferToThread(self.stream, user("100000 words"), model="long-text")
        program.signal(signal.SIGTERM)
        await program.whenSaid("SIGTERM")
        program.signal(signal.SIGTERM)
        error = await self.assertFailure(deferToThread(list, stream), openai.APIError)
        self.assertEqual(error.code, "shutting_down")
        self.assertEqual(await program.ended, 0)
        self.assertNotIn("Traceback", "".join(program.lines) + program.errors)

    async def test_killed(self) -> None:
        """
        A stream whose server is gone raises, and does not look complete.
        """
        program = await self.start()
        stream, _ = await deferToThread(self.stream, user("100000 words"), model="long-text")
        program.signal(signal.SIGKILL)
        await self.assertFailure(deferToThread(list, stream), openai.APIConnectionError)
        self.assertEqual(await program.ended, -signal.SIGKILL)

    async def test_startedTwice(self) -> None:
        """
        The second one on a port says so in one line and ends; the first one
        goes on.
        """
        first = await self.start()
        port = first.url.rpartition(":")[2]
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        second = launch(self, folder, "--embedded", "--port", port)
        self.assertNotEqual(await second.ended, 0)
        self.assertEqual(len(second.lines), 1)
        self.assertIn("Address already in use", second.lines[0])
        self.assertEqual(second.errors, "")
        models = await deferToThread(self.client.models.list)
        self.assertIn("echo", [model.id for model in models])

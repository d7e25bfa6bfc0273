"""
Legacy completions through the whole server: one prompt, and several that are
answered one after the other in one answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openai_server.api.completions.request import CONTINUE
from tests.flow.support import FlowCase
from tests.world import Client, World


def script(*steps: Mapping[str, Any]) -> str:
    """
    A prompt whose model does these steps.
    """
    return "#script " + json.dumps(steps)


def say(text: str) -> str:
    """
    A prompt whose model says just this.
    """
    return script({"say": text})


FAIL = script({"result_error": {"message": "no"}})


class CompletionCase(FlowCase):
    """
    C{POST /v1/completions}.
    """

    def post(
        self, world: World, prompt: Any, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> Client:
        """
        Post a request; no time passes.
        """
        body = {"model": "script", "prompt": prompt, **fields}
        client = world.client().post(body, path="/v1/completions", **(headers or {}))
        client.wire.read()
        return client

    def choices(self, client: Client) -> list[tuple[str, str | None]]:
        """
        Text and finish reason of each choice of what has come so far.
        """
        if not client.isStream:
            said = [(each["index"], each["text"], each["finish_reason"]) for each in client.json["choices"]]
        else:
            said = []
            for event in client.events:
                if event != "[DONE]":
                    for each in event.get("choices", ()):
                        said.append((each["index"], each["text"], each["finish_reason"]))
        texts: list[tuple[str, str | None]] = []
        for index, text, reason in said:
            self.assertIn(index, (len(texts), len(texts) - 1))
            former = texts.pop()[0] if index < len(texts) else ""
            texts.append((former + text, reason))
        return texts

    def assertChoices(self, client: Client, *choices: str) -> None:
        """
        A complete answer with these texts.
        """
        self.assertEqual((client.status, client.isComplete), (200, True), client.wire.received[:1000])
        self.assertEqual(self.choices(client), [(text, "stop") for text in choices])


class OnePromptTests(CompletionCase):
    """
    A text that is gone on with.
    """

    def test_answered(self) -> None:
        """
        Streamed and not; the model is told what to do, and sees the prompt as
        it is.
        """
        for stream in (False, True):
            world = World(self)
            client = self.post(world, "Once upon", model="echo", stream=stream)
            world.advance(1)
            self.assertChoices(client, "Once upon")
            self.assertEqual(client.header("x-hum-session"), "new")
            (prompt,) = world.sent("prompt")
            self.assertEqual((prompt["systemPrompt"], prompt["content"]), (CONTINUE, "Once upon"))
            self.assertEqual(prompt["sampling"]["maxTokens"], 16)
            world.settle()

    def test_echoAndSuffix(self) -> None:
        """
        The prompt comes first; the end of the text is in the instruction.
        """
        for stream in (False, True):
            world = World(self)
            client = self.post(world, say("b"), echo=True, suffix="c", stream=stream)
            world.advance(1)
            self.assertChoices(client, say("b") + "b")
            self.assertTrue(world.sent("prompt")[0]["systemPrompt"].endswith('"c"'))
            world.settle()

    def test_stop(self) -> None:
        """
        The text ends before the stop string.
        """
        for stream in (False, True):
            world = World(self)
            client = self.post(world, say("one END two"), stop="END", stream=stream)
            world.advance(1)
            self.assertChoices(client, "one ")
            world.advance(5)
            world.settle()

    def test_sessionsAreThrownAway(self) -> None:
        """
        Nothing is gone on with, whatever names a session: neither by the next
        completion nor by a chat that shows the same.
        """
        world = World(self)
        for _ in range(2):
            client = self.post(world, "hello", model="echo", user="ann", headers={"x-hum-session": "notes"})
            world.advance(1)
            self.assertEqual(client.header("x-hum-session"), "new")
        messages = [("system", CONTINUE), ("user", "hello"), ("assistant", "hello"), ("user", "on")]
        client = world.ask([{"role": role, "content": text} for role, text in messages], model="echo")
        world.advance(1)
        self.assertSaid(client, "on", "new")
        self.assertEqual(len(set(self.sids(world))), 3)
        world.settle()

    def test_errors(self) -> None:
        """
        Before the first byte a status, after it an event.
        """
        world = World(self)
        self.assertRefused(self.post(world, [1, 2]), 400, "unsupported_value")
        client = self.post(world, FAIL, stream=True)
        world.advance(1)
        self.assertRefused(client, 502, "worker_error")
        client = self.post(world, script({"say": "a"}, {"result_error": {"message": "no"}}), stream=True)
        world.advance(1)
        self.assertEqual((client.events[-1]["error"]["code"], client.isComplete), ("worker_error", False))
        world.settle()

    def test_deployment(self) -> None:
        """
        Azure's path names the model.
        """
        world = World(self)
        client = world.client().post({"prompt": "a"}, path="/openai/deployments/echo/completions")
        world.advance(1)
        self.assertChoices(client, "a")
        self.assertEqual(client.json["model"], "echo")
        world.settle()


class SeveralPromptsTests(CompletionCase):
    """
    Several texts in one request.
    """

    def test_answered(self) -> None:
        """
        A choice for each prompt, in order, each in a session of its own; usage
        is the sum.
        """
        for stream in (False, True):
            world = World(self)
            options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
            client = self.post(world, [say("one"), say(""), say("three")], **options)
            world.advance(2)
            self.assertChoices(client, "one", "", "three")
            self.assertEqual(len(set(self.sids(world))), 3)
            usage = client.events[-2]["usage"] if stream else client.json["usage"]
            self.assertEqual((usage["prompt_tokens"], usage["completion_tokens"]), (3 * 60, 3 * 42))
            self.assertEqual(world.ends, ["ok"])
            world.settle()

    def test_echo(self) -> None:
        """
        Each choice begins with its own prompt.
        """
        for stream in (False, True):
            world = World(self)
            client = self.post(world, ["a b", "c"], model="echo", echo=True, stream=stream)
            world.advance(1)
            self.assertChoices(client, "a ba b", "cc")
            world.settle()

    def test_streamedAsItIsSaid(self) -> None:
        """
        What is said of a later prompt is there when it is said.
        """
        world = World(self)
        client = self.post(
            world, [say("one"), script({"say": "two"}, {"sleep": 5}, {"say": "!"})], stream=True
        )
        world.advance(2)
        self.assertEqual(self.choices(client), [("one", "stop"), ("two", None)])
        world.advance(5)
        self.assertChoices(client, "one", "two!")
        world.settle()

    def test_stop(self) -> None:
        """
        It cuts each choice, and the next one follows at once.
        """
        for stream in (False, True):
            world = World(self)
            client = self.post(world, [say("a END b"), say("c END d")], stop=["END"], stream=stream)
            world.advance(2)
            self.assertChoices(client, "a ", "c ")
            world.advance(5)
            world.settle()

    def test_failure(self) -> None:
        """
        C36: one that fails fails the answer, is the last one that is asked, and must
        not simply be asked again: the others have run.
        """
        for stream in (False, True):
            world = World(self)
            client = self.post(world, [say("one"), FAIL, say("three")], stream=stream)
            world.advance(2)
            if stream:
                self.assertEqual(self.choices(client), [("one", "stop"), ("", None)][:1])
                self.assertEqual(
                    (client.events[-1]["error"]["code"], client.isComplete), ("worker_error", False)
                )
            else:
                self.assertRefused(client, 502, "worker_error")
                self.assertEqual(client.header("x-should-retry"), "false")
            self.assertEqual(len(world.sent("prompt")), 2)
            world.settle()

    def test_nextOneCannotBeAsked(self) -> None:
        """
        The same, at once, when the server asks nothing more.
        """
        world = World(self)
        client = self.post(world, [script({"sleep": 2}, {"say": "one"}), say("two")])
        world.advance(1)
        world.front.submitter.stop()
        world.advance(3)
        self.assertRefused(client, 503, "shutting_down")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertEqual(len(world.sent("prompt")), 1)
        world.settle()

    def test_clientThatLeaves(self) -> None:
        """
        K2: the prompt that is being answered is cancelled, and no other is
        asked.
        """
        for stream in (False, True):
            world = World(self)
            slow = script({"say": "two"}, {"sleep": 5}, {"say": "!"})
            client = self.post(world, [say("one"), slow, say("three")], stream=stream)
            world.advance(2)
            client.leave()
            world.advance(1)
            self.assertEqual((world.ends, len(world.sent("cancel"))), (["cl-gone"], 1))
            world.advance(10)
            self.assertEqual(len(world.sent("prompt")), 2)
            world.settle()

    def test_clientThatLeavesWhileTheNextWaits(self) -> None:
        """
        K6: it leaves the line.
        """
        world = World(self, maxTurns=1)
        client = self.post(world, [script({"sleep": 1}, {"say": "one"}), say("two")], stream=True)
        other = world.script({"sleep": 30})
        world.advance(2)
        self.assertEqual(self.choices(client), [("one", "stop")])
        client.leave()
        world.advance(1)
        self.assertEqual((world.ends, world.front.submitter.upstreams.waiting), (["cl-gone"], 0))
        world.advance(31)
        self.assertTrue(other.isComplete)
        self.assertEqual(len(world.sent("prompt")), 2)
        world.settle()

    def test_retry(self) -> None:
        """
        K15: it joins the answer, from its beginning, and nothing runs twice.
        """
        for stream in (False, True):
            world = World(self)
            prompts = [say("one"), script({"say": "two"}, {"sleep": 3}, {"say": "!"})]
            key = {"idempotency-key": "k"}
            first = self.post(world, prompts, key, stream=stream)
            world.advance(2)
            second = self.post(world, prompts, key, stream=stream)
            world.advance(4)
            third = self.post(world, prompts, key, stream=stream)
            world.advance(1)
            for client in (first, second, third):
                self.assertChoices(client, "one", "two!")
            self.assertEqual(len(world.sent("prompt")), 2)
            world.settle()

    def test_cutByTheShutdown(self) -> None:
        """
        P3: an error event, a cancel, and nothing more is asked.
        """
        world = World(self)
        client = self.post(
            world, [say("one"), script({"say": "two"}, {"sleep": 50}), say("three")], stream=True
        )
        world.advance(2)
        world.front.site.stopAccepting()
        world.front.site.cut()
        world.advance(1)
        self.assertEqual((client.events[-1]["error"]["code"], client.isComplete), ("shutting_down", False))
        self.assertEqual((world.ends, len(world.sent("cancel"))), (["drain"], 1))
        world.advance(60)
        self.assertEqual(len(world.sent("prompt")), 2)
        world.settle()

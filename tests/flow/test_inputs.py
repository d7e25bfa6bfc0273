"""
Inputs of responses that are counted and compacted, through the whole server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from openai_server.sessions.owntools import BUILT_IN
from tests.api.responses.grammar import checkCompaction
from tests.flow.support import image
from tests.flow.test_responses import LOOK, PATH, Item, ResponsesCase, plays, responseOf, result, says, textOf
from tests.machinery.models import TEST_MODELS
from tests.machinery.script import stepsFromText
from tests.machinery.steps import reaching
from tests.world import Client, World


def summarist(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Do what the last script says that is anywhere in the prompt.
    """
    return reaching(stepsFromText(prompt.content) or [])


class InputCase(ResponsesCase):
    """
    Asks for counts and compactions.
    """

    def world(self, **settings: Any) -> World:
        """
        A world with a model that plays scripts out of a conversation.
        """
        models = {**TEST_MODELS, "summarist": summarist}
        return World(self, daemonSettings={"models": models}, **settings)

    def begin(
        self, world: World, to: str, headers: Mapping[str, str] | None = None, **body: Any
    ) -> Client:
        """
        Send a request, and do not wait.
        """
        client = world.client().post(body, f"{PATH}/{to}", **(headers or {}))
        client.wire.read()
        return client

    def compact(self, world: World, *items: Item, model: str = "summarist", **fields: Any) -> Client:
        """
        Have items compacted.
        """
        client = self.begin(world, "compact", model=model, input=list(items), **fields)
        world.until(lambda: client.isComplete)
        return client

    def itemOf(self, client: Client) -> Item:
        """
        The item of a compaction, checked.
        """
        self.assertEqual((client.status, client.isComplete), (200, True), client.wire.received[:1000])
        checkCompaction(client.json)
        item: Item = client.json["output"][0]
        return item


class CountTests(InputCase):
    """
    How many tokens an input has.
    """

    def count(self, world: World, **body: Any) -> Client:
        """
        Have an input counted.
        """
        return self.begin(world, "input_tokens", **body)

    def test_count(self) -> None:
        """
        As usage says it that the worker does not give, and nobody is asked.
        """
        world = self.world()
        client = self.count(world, input="x" * 40, model="echo")
        self.assertEqual(client.json, {"object": "response.input_tokens", "input_tokens": 10})
        self.assertEqual((client.header("x-hum-usage"), client.header("x-hum-ignored")), ("estimated", None))
        alone = client.json["input_tokens"]
        more: dict[str, Any] = {"instructions": "Be brief.", "tools": [LOOK, {"type": "web_search"}]}
        client = self.count(world, input=[says("x" * 40)], **more)
        self.assertGreater(client.json["input_tokens"], alone + 3)
        self.assertEqual(client.header("x-hum-ignored"), "tools.web_search")
        self.assertEqual(world.sent("prompt"), [])
        self.assertEqual(world.ends, ["ok", "ok"])
        input = [says("x" * 40), plays({"say": "y"}, {"usage": None})]
        usage = responseOf(self.ask(world, *input, tools=[LOOK]))["usage"]
        client = self.count(world, input=input, tools=[LOOK])
        self.assertEqual(client.json["input_tokens"], usage["input_tokens"])
        world.settle()

    def test_records(self) -> None:
        """
        What it goes on from counts too, and so do compactions.
        """
        world = self.world()
        id = responseOf(self.ask(world, says("x" * 40), model="echo"))["id"]
        client = self.count(world, input="y" * 40, previous_response_id=id)
        self.assertEqual(client.json["input_tokens"], 30)
        item = self.itemOf(self.compact(world, plays({"say": "z" * 400})))
        client = self.count(world, input=[item])
        self.assertGreater(client.json["input_tokens"], 100)
        world.settle()

    def test_refusals(self) -> None:
        """
        For what a request for a response is refused, but for its model.
        """
        world = self.world()
        for body, param in (
            ({}, "input"),
            ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
            ({"input": "x", "tools": [LOOK, LOOK]}, "tools[1].name"),
            ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ):
            client = self.count(world, **body)
            self.assertEqual((client.status, client.error["param"]), (400, param))
        world.settle()


class CompactTests(InputCase):
    """
    Summaries.
    """

    def test_summaryComesBack(self) -> None:
        """
        In place of what it is a summary of, as often as it is shown; the
        conversation then goes on warm.
        """
        world = self.world()
        client = self.compact(world, says("one"), plays({"say": "They said one."}))
        item = self.itemOf(client)
        self.assertNotIn("They said", client.content.decode())
        self.assertGreater(client.json["usage"]["total_tokens"], 0)
        history: list[Item] = [item, says("two")]
        first = self.ask(world, *history, model="echo")
        self.assertEqual((textOf(first), first.header("x-hum-session")), ("two", "new"))
        told = self.contents(world)[1]
        self.assertIn("They said one.", told)
        self.assertIn("summary of our conversation so far", told)
        self.assertNotIn(item["encrypted_content"], told)
        again = self.ask(world, *history, *responseOf(first)["output"], says("three"), model="echo")
        self.assertEqual((textOf(again), again.header("x-hum-session")), ("three", "continued"))
        world.settle()

    def test_throwAwayTurn(self) -> None:
        """
        In a session that nothing else uses, without any tools; the
        conversation's own stays as it was.
        """
        for policy in ("auto", "always"):
            world = self.world(ownTools=policy)
            history = [says("one")]
            history += responseOf(self.ask(world, *history, model="echo", instructions="Be kind."))["output"]
            for _ in range(2):
                client = self.compact(
                    world, *history, model="echo", instructions="Be kind.", tools=[LOOK], stream=True
                )
                self.assertEqual(client.header("x-hum-session"), "new")
                self.itemOf(client)
            prompt = world.sent("prompt")[-1]
            self.assertEqual((prompt["systemPrompt"], prompt.get("tools")), ("Be kind.", None))
            self.assertEqual(prompt["disallowedTools"], list(BUILT_IN))
            self.assertIn("replaced by a summary", prompt["content"])
            self.assertEqual(len(set(self.sids(world))), 3)
            last = self.ask(world, *history, says("two"), model="echo", instructions="Be kind.")
            self.assertEqual(last.header("x-hum-session"), "continued")
            world.settle()

    def test_images(self) -> None:
        """
        What opens them is left.
        """
        world = self.world()
        part = {"type": "input_image", "image_url": image()["image_url"]["url"]}
        self.itemOf(self.compact(world, says([part]), model="echo"))
        (prompt,) = world.sent("prompt")
        self.assertEqual(set(BUILT_IN) - set(prompt["disallowedTools"]), {"Read"})
        world.settle()

    def test_parkedTurnStaysAsItIs(self) -> None:
        """
        Although its call and the result are some of what is summarized.
        """
        world = self.world()
        asked = plays({"tool": "look", "args": {}, "saying": "seen {result}"})
        client = self.ask(world, asked, tools=[LOOK])
        (call,) = self.callsOf(client)
        history = [asked, *responseOf(client)["output"], result(call, "a tree")]
        self.itemOf(self.compact(world, *history, model="echo"))
        self.assertIn("a tree", self.contents(world)[1])
        self.assertEqual(world.sent("tool-result"), [])
        self.assertEqual(textOf(self.ask(world, *history, tools=[LOOK])), "seen a tree")
        world.settle()

    def test_previous(self) -> None:
        """
        A kept conversation is compacted by its last response's id; the
        compaction itself is not kept.
        """
        world = self.world()
        id = responseOf(self.ask(world, says("one"), model="echo"))["id"]
        client = self.compact(world, model="echo", previous_response_id=id)
        self.itemOf(client)
        self.assertIn("one", self.contents(world)[1])
        again = self.post(world, says("x"), previous_response_id=client.json["id"])
        self.assertRefused(again, 400, "previous_response_not_found")
        world.settle()

    def test_estimatedUsage(self) -> None:
        """
        Where the worker gives no figures, it is said so.
        """
        world = self.world()
        client = self.compact(world, plays({"say": "x"}, {"usage": None}))
        self.itemOf(client)
        self.assertEqual(client.header("x-hum-usage"), "estimated")
        self.assertGreater(client.json["usage"]["input_tokens"], 100)
        world.settle()

    def test_noSummary(self) -> None:
        """
        An answer that is none, or is cut short, fails, and may not simply be
        asked again (U34).
        """
        world = self.world()
        for steps in ([{"say": " "}], [{"say": "x"}, {"finish": {"finishReason": "max_tokens"}}]):
            client = self.compact(world, plays(*steps))
            self.assertRefused(client, 502, "worker_error")
            self.assertEqual(client.header("x-should-retry"), "false")
        self.assertEqual(world.ends, ["up-error", "up-error"])
        world.settle()

    def test_errors(self) -> None:
        """
        Those of any request.
        """
        world = self.world()
        self.assertRefused(self.compact(world, says("x"), model="nobody"), 404, "model_not_found")
        client = self.compact(world, plays({"result_error": "It broke"}))
        self.assertRefused(client, 502, "worker_error")
        client = self.begin(world, "compact", input="x")
        self.assertRefused(client, 400, "missing_required_parameter")
        self.assertEqual(client.error["param"], "model")
        self.assertEqual(self.call(world).status, 405)
        world.settle()

    def call(self, world: World) -> Client:
        """
        Ask with a method that is none.
        """
        client = world.client()
        client.send(f"PUT {PATH}/compact HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n".encode())
        client.wire.read()
        return client

    def test_clientLeaves(self) -> None:
        """
        The turn is cancelled.
        """
        world = self.world()
        body = {"model": "summarist", "input": [plays({"sleep": 5}, {"say": "x"})]}
        client = self.begin(world, "compact", {"x-stainless-retry-count": "1"}, **body)
        world.advance(1)
        client.leave()
        world.advance(70)
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertIn("cl-gone", world.ends)
        world.settle()

    def test_foreignTokens(self) -> None:
        """
        Another account's, another process's, and made up ones are refused, and
        no context is lost without a word (X34).
        """
        self.withAccounts()
        world = self.world()
        mine, other = {"x-account": "a"}, {"x-account": "b"}
        item = self.itemOf(self.compact(world, plays({"say": "s"}), headers=mine))
        for headers, token in (
            (other, item["encrypted_content"]),
            (mine, "x"),
            (mine, item["encrypted_content"][:-4]),
        ):
            sent = {"type": "compaction", "encrypted_content": token}
            client = self.post(world, says("x"), sent, model="echo", headers=headers)
            self.assertRefused(client, 400, "invalid_value")
            self.assertEqual(client.error["param"], "input[1].encrypted_content")
        self.assertEqual(self.ask(world, item, says("x"), model="echo", headers=mine).status, 200)
        world.settle()
        later = self.world()
        self.assertRefused(self.post(later, item, model="echo", headers=mine), 400, "invalid_value")
        later.settle()

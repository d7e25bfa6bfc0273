"""
Tests of the embedded models and what they make of content and schemas.
"""

from __future__ import annotations

from typing import Any

from openai_server.embedded.arguments import argumentsFor
from openai_server.embedded.models import MODELS
from openai_server.embedded.settings import WorkerSettings
from tests.embedded.bees import definition
from tests.embedded.worlds import World
from tests.support import SyncCase

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "inputSchema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
        "required": ["city", "unit"],
    },
}


class TextModelTests(SyncCase):
    """
    Models that only talk.
    """

    def test_echoSaysTheWordsAtItsPace(self) -> None:
        """
        The user's text comes back, a delta a word.
        """
        world = World(self, pace=0.1)
        bee = world.ask("one two three four five", "echo")
        world.clock.pump([0.1] * 3)
        self.assertEqual(bee.text("s1"), "one two three four ")
        world.clock.pump([0.1] * 2)
        self.assertEqual(bee.text("s1"), "one two three four five")
        self.assertEqual(len(bee.chis("finish")), 1)

    def test_longTextIsAsLongAsTheUserSays(self) -> None:
        """
        So many words, one delta each, at the worker's pace.
        """
        world = World(self, pace=0.1)
        bee = world.ask("tell me 70 words", "long-text")
        world.clock.pump([0.1] * 65)
        self.assertEqual(bee.chis("finish"), [])
        world.clock.pump([0.1] * 5)
        self.assertEqual((len(bee.text("s1").split()), len(bee.chis("finish"))), (70, 1))
        self.assertTrue(bee.text("s1").startswith("A long answer comes in many small pieces."))

    def test_longTextOfNoCertainLength(self) -> None:
        """
        A thousand words.
        """
        self.assertEqual(len(World(self).ask("tell me", "long-text").text("s1").split()), 1000)

    def test_scriptWithoutAMarkerEchoes(self) -> None:
        """
        As in the recorded tones, in two deltas.
        """
        self.assertEqual(World(self).ask("hello").text("s1"), "hello")

    def test_partSpeaksTheOtherDialect(self) -> None:
        """
        All of its chunks have a C{part}.
        """
        bee = World(self).ask("one two", "part")
        self.assertEqual([chunk["part"]["text"] for chunk in bee.chis("chunk")], ["one ", "two"])

    def test_burst(self) -> None:
        """
        As many deltas as the text says.
        """
        bee = World(self).ask("give me 700 please", "burst")
        self.assertEqual(bee.text("s1"), "".join(f"{n:06d} " for n in range(700)))

    def test_silence(self) -> None:
        """
        An echo, and nothing ever.
        """
        world = World(self)
        bee = world.ask("x", "silence", rid="a-0")
        world.clock.advance(1000)
        self.assertEqual([tone["chi"] for tone in bee.tones], ["breath", "breath", "echo", "echo"])

    def test_noiseHasTheTextAndMuchElse(self) -> None:
        """
        Foreign, hidden and unknown tones stand between the words.
        """
        bee = World(self).ask("one two three", "noise")
        deltas = [t.get("delta") for t in bee.chis("chunk") if t.get("chunkType") == "text_delta"]
        self.assertEqual("".join(d for d in deltas if d != "HIDDEN"), "one two three ")
        self.assertIn("HIDDEN", deltas)
        self.assertIn("never-heard-of", {tone["chi"] for tone in bee.tones})

    def test_defaults(self) -> None:
        """
        What a user is offered is not what only tests want.
        """
        self.assertEqual(WorkerSettings().models, MODELS)
        self.assertEqual(list(MODELS), ["echo", "tool-one", "long-text"])


class ToolModelTests(SyncCase):
    """
    Models that use the tools they are offered.
    """

    def calls(self, model: str, *tools: Any) -> list[dict[str, Any]]:
        """
        The calls that a model makes with these tools.
        """
        self.world = World(self)
        self.bee = self.world.bee()
        self.bee.prompt("s1", "What is the weather in Oslo?", model, tools=list(tools))
        self.bee.hello(*(tool["name"] for tool in tools))
        self.world.clock.advance(0.5)
        return self.bee.chis("tool-call")

    def answer(self, call: dict[str, Any], output: str) -> None:
        """
        Give the result of a call.
        """
        self.bee.send(chi="tool-result", sid="s1", callId=call["callId"], output=output)
        self.world.clock.advance(0)

    def test_warmProcessKnowsItsFirstTools(self) -> None:
        """
        What a later prompt brings, or all bees list then, it is not shown; one
        that was started anew is.
        """
        [call] = self.calls("tool-one", definition("first"))
        self.answer(call, "done")
        self.bee.hello("second")
        for seconds, name in ((1, "first"), (301, "third")):
            self.world.clock.advance(seconds)
            self.bee.prompt("s1", "x", "tool-one", tools=[definition("third")])
            self.world.clock.advance(0.5)
            call = self.bee.chis("tool-call")[-1]
            self.assertEqual(call["name"], name)
            self.answer(call, "done")
            self.world.clock.advance(61)

    def test_disallowedTools(self) -> None:
        """
        A model is not shown what its process's prompt disallows.
        """
        world = World(self)
        bee = world.bee("a", "one", "two")
        bee.prompt("s1", "x", "tool-one", disallowedTools=["mcp__hum__one", "Bash"])
        world.clock.advance(0.5)
        self.assertEqual([call["name"] for call in bee.chis("tool-call")], ["two"])
        world.clock.advance(61)

    def test_toolOne(self) -> None:
        """
        One call with plausible arguments; its result becomes a sentence.
        """
        (call,) = self.calls("tool-one", WEATHER, definition("other"))
        self.assertEqual((call["name"], call["args"]), ("get_weather", {"city": "Oslo", "unit": "C"}))
        self.answer(call, "rain")
        self.assertEqual(self.bee.text("s1"), "get_weather says: rain\n")
        self.assertEqual(len(self.bee.chis("finish")), 1)

    def test_toolOneWithANameOfTheHello(self) -> None:
        """
        A tool that the prompt left to the hello is offered too, after the
        prompt's own; what is disallowed is not.
        """
        self.world = World(self)
        self.bee = self.world.bee("a", "hidden", "shared")
        for sid, tools in (("s1", []), ("s2", [definition("own")])):
            self.bee.prompt(sid, "go", "tool-one", tools=tools, disallowedTools=["mcp__hum__hidden"])
        self.world.clock.advance(0.5)
        self.assertEqual([call["name"] for call in self.bee.chis("tool-call")], ["shared", "own"])

    def test_toolOneFailing(self) -> None:
        """
        A failure becomes another sentence.
        """
        (call,) = self.calls("tool-one", WEATHER)
        self.bee.send(chi="tool-result", sid="s1", callId=call["callId"], output="no", isError=True)
        self.world.clock.advance(0)
        self.assertEqual(self.bee.text("s1"), "get_weather failed: no\n")

    def test_noTool(self) -> None:
        """
        Without a tool the model says so.
        """
        self.assertEqual(self.calls("tool-one"), [])
        self.assertEqual(self.bee.text("s1"), "I was offered no tool.")

    def test_toolParallel(self) -> None:
        """
        Two calls are open at once; one tool alone is called twice.
        """
        first, second = self.calls("tool-parallel", WEATHER, definition("other"))
        self.assertEqual((first["name"], second["name"]), ("get_weather", "other"))
        self.answer(second, "2")
        self.assertEqual(self.bee.text("s1"), "")
        self.answer(first, "1")
        self.assertEqual(self.bee.text("s1"), "get_weather says: 1\nother says: 2\n")
        self.assertEqual([call["name"] for call in self.calls("tool-parallel", WEATHER)], ["get_weather"] * 2)

    def test_toolLate(self) -> None:
        """
        The second call comes 50 ms after the first.
        """
        self.world = World(self)
        self.bee = self.world.bee("a", "x")
        self.bee.prompt("s1", "go", "tool-late", tools=[definition("x")])
        self.world.clock.advance(0.201)
        self.assertEqual(len(self.bee.chis("tool-call")), 1)
        self.world.clock.advance(0.05)
        self.assertEqual(len(self.bee.chis("tool-call")), 2)

    def test_toolUndeclared(self) -> None:
        """
        The call goes to the owners, with a sigil.
        """
        (call,) = self.calls("tool-undeclared", WEATHER)
        self.assertEqual(call["name"], "undeclared_tool")
        self.assertIn("sigil", call)

    def test_toolMegabyte(self) -> None:
        """
        The arguments have a megabyte.
        """
        (call,) = self.calls("tool-megabyte", WEATHER)
        self.assertEqual(call["args"]["city"], "Oslo")
        self.assertEqual(len(call["args"]["padding"]), 1024 * 1024)
        self.assertEqual(self.calls("tool-megabyte"), [])


class ArgumentsTests(SyncCase):
    """
    L{argumentsFor}.
    """

    def test_everyType(self) -> None:
        """
        Each property gets something of its type.
        """
        schema = {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "fixed": {"const": 5},
                "usual": {"type": "string", "default": "d"},
                "example": {"type": "string", "examples": ["e"]},
                "count": {"type": "integer", "minimum": 3},
                "flag": {"type": "boolean"},
                "nothing": {"type": "null"},
                "list": {"type": "array", "items": {"type": ["number", "null"]}},
                "bare": {"type": "array"},
                "inner": {"type": "object", "properties": {"x": {}}},
            },
        }
        self.assertEqual(
            argumentsFor(schema, "say hello-world."),
            {
                "text": "hello-world",
                "fixed": 5,
                "usual": "d",
                "example": "e",
                "count": 3,
                "flag": True,
                "nothing": None,
                "list": [1],
                "bare": [],
                "inner": {"x": "hello-world"},
            },
        )

    def test_whatIsNoSchema(self) -> None:
        """
        Anything else gives no arguments, and recursion ends.
        """
        for odd in (None, [], {"type": "string"}, {"type": "object", "properties": None}):
            self.assertEqual(argumentsFor(odd, ""), {}, odd)
        endless: dict[str, Any] = {"type": "object", "properties": {}}
        endless["properties"]["x"] = endless
        self.assertIn("x", argumentsFor(endless, ""))
        self.assertEqual(argumentsFor({"type": "object", "properties": {"x": {}}}, "?!"), {"x": "something"})

"""
Tests of the script language beyond what the recorded tones show.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.embedded.models import words
from tests.embedded.bees import Bee
from tests.embedded.worlds import World
from tests.machinery.script import ScriptError, stepFromWritten, stepsFromText
from tests.machinery.steps import Flood, Say, Sleep, cut
from tests.support import SyncCase


class ParsingTests(SyncCase):
    """
    Text into steps.
    """

    def test_noMarker(self) -> None:
        """
        A text without the marker holds no script.
        """
        self.assertIsNone(stepsFromText("hello"))

    def test_theLastMarkerCounts(self) -> None:
        """
        What stands before the last script, and after it, is not looked at.
        """
        text = 'User: #script [{"say": "old"}]\nUser: #script [{"flood": 2}, {"sleep": 1}]\nmore'
        self.assertEqual(stepsFromText(text), [Flood(2), Sleep(1.0)])

    def test_defaults(self) -> None:
        """
        C{say} is cut in two unless it says otherwise.
        """
        self.assertEqual(stepFromWritten({"say": "x"}), Say("x", 2))

    def test_whatCannotBePlayed(self) -> None:
        """
        The error says what is wrong.
        """
        for text, why in (
            ("#script nonsense", "not JSON"),
            ('#script {"say": "x"}', "no list"),
            ('#script [{"sing": "x"}]', "no such step"),
            ('#script [{"sleep": "long"}]', "step 'sleep' is wrong"),
            ('#script [{"tools": [{}]}]', "step 'tools' is wrong"),
            ("#script [5]", "no such step"),
        ):
            self.assertIn(why, str(self.assertRaises(ScriptError, stepsFromText, text)))

    @settings(deadline=None, max_examples=100)
    @given(st.text(), st.integers(1, 20))
    def test_cuttingLosesNothing(self, text: str, parts: int) -> None:
        """
        Pieces and words put together are the text; there are never too many.
        """
        pieces = list(cut(text, parts))
        self.assertEqual("".join(pieces), text)
        self.assertLessEqual(len(pieces), parts)
        self.assertEqual("".join(words(text)), text)

    def test_words(self) -> None:
        """
        A word keeps the spaces that follow it.
        """
        self.assertEqual(list(words("one  two\nthree")), ["one  ", "two\n", "three"])


class PlayingTests(SyncCase):
    """
    The steps that were added for tests.
    """

    def play(self, *steps: Any) -> Bee:
        """
        A bee that has asked for these steps.
        """
        self.world = World(self)
        return self.world.ask(list(steps))

    def test_scriptThatCannotBePlayedSaysSo(self) -> None:
        """
        The turn ends in an error with the reason.
        """
        (error,) = self.play({"sing": "x"}).chis("error")
        self.assertIn("no such step", error["message"])

    def test_words(self) -> None:
        """
        A delta a word, at the pace that the step says.
        """
        bee = self.play({"words": "one two three", "pace": 1})
        self.assertEqual(bee.text("s1"), "one ")
        self.world.clock.pump([1, 1])
        self.assertEqual(bee.text("s1"), "one two three")
        self.assertEqual(bee.chis("finish"), [])
        self.world.clock.advance(1)
        self.assertEqual(len(bee.chis("finish")), 1)

    def test_pace(self) -> None:
        """
        The deltas that follow come one by one.
        """
        bee = self.play({"pace": 1}, {"say": "abcd", "parts": 4})
        self.world.clock.pump([1, 1])
        self.assertEqual(bee.text("s1"), "abc")

    def test_dialect(self) -> None:
        """
        In the specification's form a block has neither start nor stop.
        """
        bee = self.play(
            {"dialect": "part"}, {"say": "ab"}, {"think": "c"}, {"dialect": "chunkType"}, {"say": "d"}
        )
        parts = [chunk["part"] for chunk in bee.chis("chunk") if "part" in chunk]
        self.assertEqual(
            parts,
            [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b"},
                {"type": "reasoning", "text": "c"},
            ],
        )
        self.assertEqual(
            [chunk["chunkType"] for chunk in bee.chis("chunk") if "chunkType" in chunk],
            ["text_start", "text_delta", "content_block_stop"],
        )

    def test_rawTones(self) -> None:
        """
        A raw tone belongs to this session unless it says otherwise.
        """
        bee = self.play(
            {"raw": {"chi": "log", "x": 1}},
            {"raw": {"chi": "log", "x": 2, "sid": None}},
            {"raw": {"chi": "log", "x": 3, "sid": "other"}},
            {"raw": {"chi": "log", "x": 4, "sid": 7}},
        )
        self.assertEqual([tone.get("sid") for tone in bee.chis("log")], ["s1", None, "other", 7])
        self.assertNotIn("sid", bee.chis("log")[1])

    def test_rawLine(self) -> None:
        """
        A line goes out as its bytes are.
        """
        bee = self.play({"line": "{not\xff json"})
        self.assertIn(b"{not\xff json", bee.lines)

    def test_ending(self) -> None:
        """
        The members of the finish can be set and taken out.
        """
        bee = self.play({"usage": None}, {"finish": {"finishReason": "end_turn", "x": 1}})
        (finish,) = bee.chis("finish")
        self.assertEqual((finish["usage"], finish["finishReason"], finish["x"]), (None, "end_turn", 1))
        bee = self.play({"finish": {"finishReason": None, "usage": None}})
        (finish,) = bee.chis("finish")
        self.assertEqual(finish.keys() & {"usage", "finishReason"}, set())

    def test_endWithoutATone(self) -> None:
        """
        The turn is over and nobody is told; the next prompt is answered.
        """
        bee = self.play({"say": "x"}, {"end": 1}, {"say": "never"})
        self.assertEqual((bee.text("s1"), bee.chis("finish")), ("x", []))
        bee.prompt("s1", [{"say": "y"}])
        self.world.clock.advance(0)
        self.assertEqual(bee.text("s1"), "xy")

    def test_silence(self) -> None:
        """
        The turn never ends.
        """
        bee = self.play({"say": "x"}, {"silence": 1})
        self.world.clock.advance(10_000)
        self.assertEqual(bee.chis("finish", "error"), [])
        self.assertFalse(self.world.daemon.isIdle)

    def test_vanish(self) -> None:
        """
        No process is started for the prompt.
        """
        bee = self.play({"vanish": 1})
        self.assertEqual(bee.chis("session-ready"), [])
        self.assertTrue(self.world.daemon.isIdle)

    def test_callsWithAGap(self) -> None:
        """
        The second call comes later, also when the first has its result by then.
        """
        self.world = World(self)
        bee = self.world.bee("a", "x")
        bee.prompt("s1", [{"tools": [{"tool": "x"}, {"tool": "x"}], "gap": 1, "saying": "<{name}={result}>"}])
        self.world.clock.advance(0.5)
        (call,) = bee.chis("tool-call")
        bee.send(chi="tool-result", sid="s1", callId=call["callId"], output="1")
        self.world.clock.advance(0.5)
        self.assertEqual(len(bee.chis("tool-call")), 1)
        self.world.clock.advance(0.5)
        bee.send(chi="tool-result", sid="s1", callId=bee.chis("tool-call")[1]["callId"], output="2")
        self.world.clock.advance(0)
        self.assertEqual(bee.text("s1"), "<x=1><x=2>")

    def test_strangeCalls(self) -> None:
        """
        A call can have any arguments and id, lack members, and come twice.
        """
        self.world = World(self)
        bee = self.world.bee("a", "x")
        step = {"tool": "x", "args": "not {json", "callId": "mine", "again": {"q": 2}, "without": ["name"]}
        bee.prompt("s1", [step])
        self.world.clock.advance(0.5)
        first, second = bee.chis("tool-call")
        self.assertEqual((first["args"], second["args"]), ("not {json", {"q": 2}))
        self.assertEqual((first["callId"], second["callId"]), ("mine", "mine"))
        self.assertNotIn("name", first)

    def test_ownToolShowsNothing(self) -> None:
        """
        Nothing of a tool that the worker runs itself is on the wire.
        """
        bee = self.play({"own_tool": "Bash"})
        self.assertEqual(bee.chis("chunk", "tool-call"), [])

    def test_scriptsAreJSON(self) -> None:
        """
        The content that these tests send is what a user would write.
        """
        self.assertEqual(stepsFromText("#script " + json.dumps([{"flood": 3}])), [Flood(3)])

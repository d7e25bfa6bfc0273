"""
Tests of the worker: its processes, its one list of tools, its patience.
"""

from __future__ import annotations

from typing import Any

from openai_server.embedded.playback import outputOf
from openai_server.embedded.runqueue import TURN_TONES
from openai_server.embedded.worker import EmbeddedWorker, canStart
from tests.embedded.bees import Bee, definition
from tests.embedded.worlds import World
from tests.support import SyncCase


class ProcessTests(SyncCase):
    """
    Warm, cold, evicted and idle processes.
    """

    def worker(self, world: World) -> EmbeddedWorker:
        """
        The one worker.
        """
        (worker,) = world.daemon.workers
        return worker

    def test_warmProcessAnswersAtOnce(self) -> None:
        """
        The second prompt of a sid needs no start.
        """
        world = World(self)
        bee = world.ask("one")
        bee.prompt("s1", "two")
        world.clock.advance(0)
        self.assertEqual(bee.text("s1"), "onetwo")
        self.assertEqual((len(bee.chis("session-ready")), self.worker(world).processes), (2, 1))

    def test_commandsOfTheCLI(self) -> None:
        """
        What begins with a slash and a word is no prompt: the model sees
        nothing of it, and the turn ends well with all figures 0.
        """
        world = World(self)
        bee = world.ask("/compact")
        for content in ("/review x", "/nosuchcommand\nx"):
            bee.prompt("s1", content)
        world.clock.advance(0)
        self.assertEqual((bee.text("s1"), len(bee.chis("session-ready"))), ("", 3))
        ends = [(finish["finishReason"], set(finish["usage"].values())) for finish in bee.chis("finish")]
        self.assertEqual(ends, [("success", {0})] * 3)
        for content in ("/etc/nginx.conf: x", " /compact", "/", "/ x", "//x", "a /b"):
            bee.prompt("s1", content)
            world.clock.advance(0)
            self.assertTrue(bee.text("s1").endswith(content), content)

    def test_idleProcessEnds(self) -> None:
        """
        After 300 s the next prompt starts another one, which reads the list anew.
        """
        world = World(self)
        bee = world.ask([{"list_startup": 1}], tools=[definition("a")])
        bee.prompt("s2", "x", tools=[definition("b")])
        world.clock.advance(299)
        self.assertEqual(self.worker(world).processes, 2)
        world.clock.advance(300)
        self.assertEqual(self.worker(world).processes, 0)
        bee.prompt("s1", [{"list_startup": 1}])
        world.clock.advance(0)
        self.assertEqual(bee.text("s1"), '["a"]')
        world.clock.advance(0.2)
        self.assertEqual(bee.text("s1"), '["a"]["b"]')

    def test_busyProcessDoesNotEnd(self) -> None:
        """
        Silence is not idleness.
        """
        world = World(self)
        bee = world.ask([{"sleep": 1000}, {"say": "x"}])
        world.clock.advance(1000)
        self.assertEqual(bee.text("s1"), "x")

    def test_idleTimeBeginsAnewWithEachPrompt(self) -> None:
        """
        What was used 299 s ago lives on.
        """
        world = World(self)
        bee = world.ask("x")
        world.clock.advance(299)
        bee.prompt("s1", "y")
        world.clock.advance(299)
        self.assertEqual(self.worker(world).processes, 1)

    def test_ninthSidEvictsTheLeastRecentlyUsed(self) -> None:
        """
        An idle one ends; the others stay warm.
        """
        world = World(self)
        bee = world.bee()
        for number in range(8):
            bee.prompt(f"s{number}", "x")
            world.clock.advance(0.5)
        bee.prompt("s0", "x")
        bee.prompt("s8", "x")
        world.clock.advance(0.5)
        self.assertEqual(self.worker(world).processes, 8)
        bee.prompt("s0", "warm")
        bee.prompt("s1", "cold")
        world.clock.advance(0)
        self.assertEqual((bee.text("s0"), bee.text("s1")), ("xxwarm", "x"))

    def test_evictedTurnEndsWell(self) -> None:
        """
        As a ninth process, which ends with it.
        """
        world = World(self)
        bee = world.ask([{"sleep": 10}, {"say": "first"}], sid="s0")
        for number in range(1, 9):
            bee.prompt(f"s{number}", "x")
        self.assertEqual(self.worker(world).processes, 9)
        world.clock.advance(10)
        self.assertEqual(bee.text("s0"), "first")
        self.assertEqual(self.worker(world).processes, 8)

    def test_workerThatKills(self) -> None:
        """
        Cancel and eviction end a process with an exit code and no usage.
        """
        world = World(self, kills=True)
        bee = world.ask([{"say": "a"}, {"sleep": 10}, {"say": "b"}], sid="s0")
        bee.send(chi="cancel", sid="s0")
        (finish,) = bee.chis("finish")
        self.assertEqual((finish["finishReason"], finish["exitCode"]), ("error", 143))
        self.assertNotIn("usage", finish)
        bee.prompt("s1", [{"sleep": 100}])
        world.clock.advance(0.5)
        for number in range(2, 10):
            bee.prompt(f"s{number}", "x")
        self.assertEqual([tone["sid"] for tone in bee.chis("finish")], ["s0", "s1"])
        bee.send(chi="cancel", sid="s9")
        world.clock.advance(20)
        self.assertEqual(bee.text("s0") + bee.text("s9"), "a")

    def test_exitEndsTheProcess(self) -> None:
        """
        The next prompt starts another one.
        """
        world = World(self)
        bee = world.ask([{"exit": 3}])
        self.assertEqual(self.worker(world).processes, 0)
        bee.prompt("s1", "again")
        world.clock.advance(0.2)
        self.assertEqual(bee.text("s1"), "again")

    def test_warmProcessKeepsItsModel(self) -> None:
        """
        Another model on the same sid changes nothing.
        """
        world = World(self)
        bee = world.ask("x")
        bee.prompt("s1", "a b", "part")
        world.clock.advance(0)
        self.assertEqual(bee.chis("session-ready")[1]["model"], "script")


class VanishingTests(SyncCase):
    """
    Prompts that nobody ever hears of.
    """

    def isAnswered(self, sid: str = "s1", **members: Any) -> bool:
        """
        Whether a prompt gets any tone but its echo.
        """
        world = World(self)
        bee = world.ask("x", sid=sid, **members)
        world.clock.advance(1000)
        return bool(bee.chis("session-ready"))

    def test_systemPrompt(self) -> None:
        """
        From 131,072 bytes of UTF-8 up, or with a NUL in it.
        """
        self.assertTrue(self.isAnswered(systemPrompt="s" * 131_071))
        self.assertFalse(self.isAnswered(systemPrompt="s" * 131_072))
        self.assertFalse(self.isAnswered(systemPrompt="é" * 65_536))
        self.assertFalse(self.isAnswered(systemPrompt="a\0b"))

    def test_listsOfTools(self) -> None:
        """
        They are one argument each.
        """
        self.assertFalse(self.isAnswered(allowedTools=["x" * 70_000, "y" * 70_000]))
        self.assertFalse(self.isAnswered(disallowedTools=["x" * 140_000]))

    def test_contentHasNoLimit(self) -> None:
        """
        Neither for length nor for NUL.
        """
        world = World(self)
        text = "a\0" * 100_000
        self.assertEqual(world.ask(text).text("s1"), text)

    def test_sids(self) -> None:
        """
        A sid that is no path segment as it stands.
        """
        for bad in ("a/b", "a b", "a%", "a?", "a#", "é", "a\n"):
            self.assertFalse(canStart(bad, {}), bad)
        self.assertFalse(self.isAnswered(sid="a/b"))
        self.assertTrue(self.isAnswered(sid="aZ_-9"))


class CatalogueTests(SyncCase):
    """
    The one list of tools.
    """

    def test_disallowedNamesAreOutOfSight(self) -> None:
        """
        A name that C{disallowedTools} has as C{mcp__hum__NAME} is not offered.
        """
        world = World(self)
        world.ask("x", tools=[definition("a"), definition("b")])
        bee = world.ask("x", sid="s2", disallowedTools=["mcp__hum__a", "Bash"])
        self.assertEqual(bee.chis("session-ready")[-1]["tools"], ["Bash", "Read", "mcp__hum__b"])

    def test_namesAsTheModelIsShownThem(self) -> None:
        """
        Other characters become C{_}; the call brings the original.
        """
        world = World(self)
        bee = world.ask([{"tool": "a.b"}], tools=[definition("a.b")])
        self.assertEqual(bee.chis("session-ready")[0]["tools"], ["Bash", "Read", "mcp__hum__a_b"])
        self.assertEqual(bee.chis("tool-call")[0]["name"], "a.b")

    def test_warmPromptOverwritesTheList(self) -> None:
        """
        A prompt with tools on a known sid changes what others will be offered.
        """
        world = World(self)
        bee = world.ask("x", tools=[definition("a")])
        bee.prompt("s1", "x", tools=[definition("b")])
        bee.prompt("s2", [{"list_startup": 1}])
        world.clock.advance(0.5)
        self.assertEqual(bee.text("s2"), '["b"]')

    def test_theListIsReadAtTheEndOfTheStart(self) -> None:
        """
        What comes until then is what the process gets.
        """
        world = World(self, startUp=2.0)
        bee = world.ask([{"list_startup": 1}], tools=[definition("a")])
        world.clock.advance(1.4)
        bee.prompt("s2", "x", tools=[definition("b")])
        world.clock.advance(0.2)
        self.assertEqual(bee.text("s1"), '["b"]')


class PatienceTests(SyncCase):
    """
    Waiting for results.
    """

    def parked(self, world: World) -> Bee:
        """
        A bee whose turn waits for a result.
        """
        bee = world.bee("a", "x")
        bee.prompt("s1", [{"tool": "x"}, {"say": "end"}])
        world.clock.advance(0.2)
        return bee

    def test_afterAMinuteTheModelGoesOn(self) -> None:
        """
        It reads that the operation timed out; nothing else shows that.
        """
        world = World(self)
        bee = self.parked(world)
        world.clock.advance(59.9)
        self.assertEqual(bee.text("s1"), "")
        world.clock.advance(0.1)
        self.assertEqual(bee.text("s1"), "[error The operation timed out.]end")
        self.assertNotIn("tool_executed", [chunk["chunkType"] for chunk in bee.chis("chunk")])

    def test_lateResultIsIgnored(self) -> None:
        """
        Nobody waits for it any more, and nothing is kept for it.
        """
        world = World(self)
        bee = self.parked(world)
        world.clock.advance(60)
        before = bee.tones
        bee.send(chi="tool-result", sid="s1", callId=bee.chis("tool-call")[0]["callId"], output="r")
        world.clock.advance(10)
        self.assertEqual(bee.tones, before)
        assert world.daemon.state is not None
        self.assertEqual(world.daemon.state.routes, {})

    def test_unroutedResultIsDropped(self) -> None:
        """
        A call that went to owners cannot be answered.
        """
        world = World(self)
        bee = world.ask([{"tool": "x"}])
        (call,) = bee.chis("tool-call")
        bee.send(chi="tool-result", sid="s1", callId=call["callId"], output="r")
        world.clock.advance(1)
        self.assertEqual(bee.text("s1"), "")
        world.clock.advance(60)
        self.assertEqual(bee.text("s1"), "[error The operation timed out.]")

    def test_whatAModelReads(self) -> None:
        """
        The first of C{output}, C{result} and C{content} that is there, if it is
        a string.
        """
        self.assertEqual(outputOf({"result": "R", "content": "C"}), "R")
        self.assertEqual(outputOf({"output": None, "result": "R"}), "(no output)")
        self.assertEqual(outputOf({}), "(no output)")


class FairnessTests(SyncCase):
    """
    The worker yields to the reactor.
    """

    def test_boundedTonesATurnOfTheReactor(self) -> None:
        """
        Eight floods together show no more than some 256 tones at once, and
        none of them waits for another's end.
        """
        world = World(self)
        bee = world.bee()
        for number in range(8):
            bee.prompt(f"s{number}", [{"flood": 2000}])
        counts, before = [], len(bee.lines)
        world.clock.rightNow += 0.2
        while any(call.getTime() <= world.clock.seconds() for call in world.clock.getDelayedCalls()):
            call = world.clock.calls.pop(0)
            call.called = 1
            call.func(*call.args)
            now = bee.wire.value().count(b"\n")
            counts.append(now - before)
            before = now
        self.assertLessEqual(max(counts), TURN_TONES + 130)
        self.assertGreater(len(counts), 8 * 2000 // (TURN_TONES + 130))
        self.assertEqual([len(bee.text(f"s{number}")) for number in range(8)], [14_000] * 8)

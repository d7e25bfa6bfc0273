"""
Tests for L{openai_server.daemon.router}, by way of the link.
"""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.latetones import Recent
from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost
from openai_server.wire.tones import HIDDEN, Error, Finish, ToolDefinition
from tests.daemon.world import BREATH, LinkCase, call, chunk, finish, linesFrom, noWorker, tool
from tests.support import SyncCase


class StrayTests(LinkCase):
    """
    Tones that belong to no turn.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_unknownSids(self) -> None:
        """
        (X1) (X3) (X4) Tones for sids that were never asked on, an empty one,
        or none, reach nobody and are counted.
        """
        heard = self.asked()
        self.daemon.say(
            chunk("x", "a"), chunk("x", "a"), chunk("", "a"), finish("x"),
            {"chi": "session-ready", "sid": "x"}, {"chi": "error", "sid": "x"}, {"chi": "error"},
            {"chi": "error", "sid": "x", "callId": "c"},
        )  # fmt: skip
        self.assertEqual(heard.told, ["echoed"])
        self.assertEqual(self.link.counts, {"foreign_tones": 8})
        self.assertEqual(self.daemon.heard(), [])

    def test_finishedSid(self) -> None:
        """
        (X2) Tones for a sid that is over are counted as late.
        """
        heard = self.asked()
        self.daemon.say(finish("s1"))
        self.daemon.say(chunk("s1", "a"), {"chi": "session-ready", "sid": "s1"})
        self.assertEqual(len(heard.told), 2)
        self.assertEqual(self.link.counts, {"late_tones": 2})

    def test_strayCallsFailAtOnce(self) -> None:
        """
        (X16) A call routed to us by name for an unknown or finished sid is
        answered with an error, with its sid and id, and once.
        """
        self.asked()
        self.daemon.say(finish("s1"))
        self.daemon.heard()
        self.daemon.say(call("x", "c1", "f"), call("s1", "c2", "g"), call("x", "c1", "f"))
        self.daemon.say(call("x", "c1", "f"))
        told = [
            (tone["chi"], tone["sid"], tone["callId"], tone["toolName"], tone["isError"])
            for tone in self.daemon.heard()
        ]
        self.assertEqual(
            told, [("tool-result", "x", "c1", "f", True), ("tool-result", "s1", "c2", "g", True)]
        )
        self.assertEqual(self.link.counts["refused_calls"], 2)

    def test_strayCallNamedTheOldWay(self) -> None:
        """
        (X16) The tool's name may stand in C{name} alone, or nowhere.
        """
        old = {"chi": "tool-call", "sid": "x", "callId": "c1", "name": "f"}
        self.daemon.say(old, {"chi": "tool-call", "sid": "x", "callId": "c2"})
        self.assertEqual([tone["toolName"] for tone in self.daemon.heard()], ["f", ""])

    def test_answeredCallOfAFinishedTurn(self) -> None:
        """
        (I5) A call that was answered while its turn ran is not answered again afterwards.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        heard.turn.answer("c1", "f", "x", False)
        self.daemon.say(finish("s1"))
        self.daemon.heard()
        self.daemon.say(call("s1", "c1"))
        self.assertEqual(self.daemon.heard(), [])

    def test_unroutedStrayCall(self) -> None:
        """
        (X16) (U32) With a sigil nothing can be sent: it is counted.
        """
        self.daemon.say(call("x", "c1", sigil="2ee3337e45f2"))
        self.assertEqual(self.daemon.heard(), [])
        self.assertEqual(self.link.counts["unrouted_calls"], 1)

    def test_strayCallBeforeTheBreath(self) -> None:
        """
        Nothing but the opening is written before the daemon has breathed.
        """
        daemon = self.reconnect()
        daemon.heard()
        daemon.say(call("x", "c1"))
        self.assertEqual(daemon.heard(), [])

    def test_hiddenTones(self) -> None:
        """
        (U27) What is not for clients reaches no audience; permission-ask is counted.
        """
        heard = self.asked()
        self.daemon.say(*({"chi": chi, "sid": "s1"} for chi in HIDDEN), chunk("s1", "x"))
        self.assertEqual(heard.text, "x")
        self.assertEqual(len(heard.told), 2)
        self.assertEqual(self.link.counts, {"permission_asks": 1})

    def test_memoryIsBounded(self) -> None:
        """
        Only the latest finished sids are remembered.
        """
        recent = Recent(3)
        for key in "abcd":
            recent.add(key)
        self.assertEqual([key in recent for key in "abcd"], [False, True, True, True])
        self.assertEqual(len(recent), 3)


class BatchTests(LinkCase):
    """
    One read, many turns.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_oneCallForEachTurn(self) -> None:
        """
        What one read brought for a turn comes in one call, in order.
        """
        one, two = self.asked("a"), self.asked("b")
        self.daemon.say(chunk("a", "1"), chunk("b", "2"), call("a", "c1"), chunk("a", "3"))
        self.assertEqual([len(batch) for batch in one.batches], [3])
        self.assertEqual([len(batch) for batch in two.batches], [1])
        self.assertEqual(one.text, "13")

    def test_endComesBehindTheTonesOfItsRead(self) -> None:
        """
        Tones before a finish are told before it, and those of other turns too.
        """
        one, two = self.asked("a"), self.asked("b")
        self.daemon.say(chunk("a", "1"), chunk("b", "2"), finish("a"), chunk("b", "3"))
        self.assertEqual(one.text, "1")
        self.assertIsInstance(one.end, Finish)
        self.assertEqual([len(batch) for batch in two.batches], [2])

    def test_burstOfFiftyThousand(self) -> None:
        """
        (S21) Nothing is lost in a burst, and reading was never paused.
        """
        heard = self.asked()
        stream = linesFrom([*(chunk("s1", f"{number:06d} ") for number in range(50_000)), finish("s1")])
        for start in range(0, len(stream), 65536):
            self.daemon.protocol.dataReceived(stream[start : start + 65536])
        self.assertEqual(heard.text, "".join(f"{number:06d} " for number in range(50_000)))
        self.assertLessEqual(len(heard.batches), len(stream) // 65536 + 1)

    @settings(deadline=None, max_examples=25)
    @given(st.data())
    def test_manySidsRandomSplits(self, data: st.DataObject) -> None:
        """
        (X6) (S10) 40 sids interleaved at random, read in random pieces, some
        cancelled on the way: each audience gets its own tones in order, or the
        beginning of them.
        """
        case = LinkCase("setUp")
        case.setUp()
        case.start()
        sids = [f"s{number}" for number in range(40)]
        heard = {sid: case.asked(sid) for sid in sids}
        order = data.draw(st.lists(st.sampled_from(sids), min_size=50, max_size=150))
        expected: dict[str, str] = defaultdict(str)
        tones = []
        for number, sid in enumerate(order):
            expected[sid] += f"{sid}.{number};"
            tones.append(chunk(sid, f"{sid}.{number};"))
        stream = linesFrom([*tones, *(finish(sid) for sid in sids)])
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
        aborted = set(data.draw(st.lists(st.sampled_from(sids), max_size=5)))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            case.daemon.protocol.dataReceived(stream[start:end])
            for sid in aborted:
                turn = heard[sid].turn
                assert turn is not None
                turn.cancel()
        for sid in sids:
            if sid in aborted:
                self.assertTrue(expected[sid].startswith(heard[sid].text))
            else:
                self.assertEqual(heard[sid].text, expected[sid])
                self.assertIsInstance(heard[sid].end, Finish)
        case.nothingIsLeft()


class NoWorkerTests(LinkCase):
    """
    (U1) The daemon has no worker for the model.
    """

    def test_notYet(self) -> None:
        """
        (U1) (S8) Shortly after the connection it means "not yet": the same is
        asked under a new rid as soon as the registry names a worker.
        """
        self.start()
        heard = self.asked(content="question")
        self.daemon.say(noWorker("s1"))
        self.assertEqual(heard.told, ["echoed"])
        self.registry.rewrite("other")
        self.assertEqual(self.daemon.heard(), [])
        self.registry.rewrite("m")
        [prompt] = self.daemon.heard()
        self.assertEqual((prompt["chi"], prompt["sid"], prompt["content"]), ("prompt", "s1", "question"))
        self.daemon.say({"chi": "echo", "rid": prompt["rid"]}, chunk("s1", "x"), finish("s1"))
        self.assertEqual((heard.text, heard.told.count("echoed")), ("x", 1))

    def test_workerCameWhileTheErrorWasOnItsWay(self) -> None:
        """
        (U1) The registry named it before the error was read: asked again at
        once, and not in a circle while the file stays as it is.
        """
        self.start()
        heard = self.asked()
        self.registry.rewrite("m")
        self.daemon.say(noWorker("s1"))
        self.assertEqual(len(self.daemon.heardOf("prompt")), 1)
        self.daemon.say(noWorker("s1"))
        self.assertEqual(self.daemon.heardOf("prompt"), [])
        self.assertEqual(heard.told, ["echoed"])

    def test_onceMoreAfterFiveSeconds(self) -> None:
        """
        (U1) Without a registry it is asked once more when the 5 s are over;
        then the error is the answer.
        """
        self.start()
        heard = self.asked()
        self.daemon.say(noWorker("s1"))
        self.clock.advance(4.9)
        self.assertEqual(self.daemon.heard(), [])
        self.clock.advance(0.1)
        [prompt] = self.daemon.heard()
        self.daemon.say({"chi": "echo", "rid": prompt["rid"]}, noWorker("s1"))
        self.assertIsInstance(heard.end, Error)
        self.assertEqual(self.daemon.heard(), [])

    def test_askedAgainHasItsDeadlines(self) -> None:
        """
        (U1) (S16) The second asking needs its echo too.
        """
        self.start()
        heard = self.asked()
        self.daemon.say(noWorker("s1"))
        self.clock.advance(5)
        self.clock.advance(10)
        self.assertEqual(heard.end, Lost(Loss.NO_ECHO, False))

    def test_namesOfThePromptAskedAgain(self) -> None:
        """
        (U1) Its tools are registered behind it as at first.
        """
        self.start()
        self.asked(tools=[tool("f")])
        self.daemon.heard()
        self.daemon.say(noWorker("s1"))
        self.registry.rewrite("m")
        hello, prompt, after = self.daemon.heard()
        self.assertEqual((hello["tools"], [each["name"] for each in prompt["tools"]]), ([], ["f"]))
        self.assertEqual([each["name"] for each in after["tools"]], ["f"])

    def test_laterItIsTheAnswer(self) -> None:
        """
        (U1) 5 s after the connection the error goes to the audience at once.
        """
        self.start()
        self.clock.advance(5)
        heard = self.asked()
        self.daemon.say(noWorker("s1"))
        self.assertIsInstance(heard.end, Error)

    def test_otherErrorsAreAnswers(self) -> None:
        """
        (U1) Only humd's own words without a code, before anything was seen, mean it.
        """
        self.start()
        for number, (before, error) in enumerate(
            [
                ([], {"code": "worker_error"}),
                ([], {"message": "something else"}),
                ([], {"message": None}),
                ([{"chi": "session-ready"}], {}),
                ([chunk("", "x")], {}),
            ]
        ):
            sid = f"s{number}"
            heard = self.asked(sid)
            self.daemon.say(*({**tone, "sid": sid} for tone in before), {**noWorker(sid), **error})
            self.assertIsInstance(heard.end, Error, error)

    def test_cancelledWhileWaiting(self) -> None:
        """
        (U1) Nothing runs: the turn is over at once and is not asked again.
        """
        self.start()
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(noWorker("s1"))
        heard.turn.cancel()
        self.assertIsInstance(heard.over, Error)
        self.registry.rewrite("m")
        self.clock.advance(5)
        self.assertEqual(self.daemon.heard(), [])
        self.assertEqual(heard.told, ["echoed"])

    def test_lostWhileWaiting(self) -> None:
        """
        (U1) (S7) The connection's loss ends it as any other.
        """
        self.start()
        heard = self.asked()
        self.daemon.say(noWorker("s1"))
        self.daemon.lose()
        self.assertEqual(heard.end, Lost(Loss.DAEMON_LOST, False))

    def test_congestedWhenItWouldBeAskedAgain(self) -> None:
        """
        (U1) (S15) A daemon that does not read is not given more: the error is the answer.
        """
        self.start()
        heard = self.asked()
        self.daemon.say(noWorker("s1"))
        producer = self.daemon.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.ask("big", content="x" * (9 << 20))
        self.daemon.heard()
        self.clock.advance(5)
        self.assertIsInstance(heard.end, Error)
        self.assertEqual(self.daemon.heard(), [])


class WorkerLostTests(LinkCase):
    """
    (U20) Only the registry file tells that a worker is gone.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.registry.rewrite("m")

    def test_workerGone(self) -> None:
        """
        (U20) Live, parked and draining turns with its model end; others go on.
        """
        live, parked, draining = (self.asked(f"s{n}") for n in range(3))
        other = self.asked("s3", modelId="elsewhere")
        assert parked.turn is not None and draining.turn is not None
        self.daemon.say(chunk("s0", "x"))
        parked.turn.park()
        draining.turn.cancel()
        self.registry.rewrite()
        self.assertEqual(live.end, Lost(Loss.WORKER_LOST, True))
        self.assertEqual(parked.end, Lost(Loss.WORKER_LOST, False))
        self.assertTrue(draining.turn.isOver)
        self.assertIsNone(other.end)

    def test_anotherWorkerIsLeft(self) -> None:
        """
        (U20) While the model is still named nothing is concluded.
        """
        heard = self.asked()
        self.registry.rewrite("x", "m")
        self.assertIsNone(heard.end)

    def test_fileGone(self) -> None:
        """
        (U20) A file that is not there says nothing.
        """
        heard = self.asked()
        self.registry.remove()
        self.assertIsNone(heard.end)
        self.registry.rewrite()
        self.assertEqual(heard.end, Lost(Loss.WORKER_LOST, False))

    def test_neverNamed(self) -> None:
        """
        (U20) A worker elsewhere in the mesh is not in the file.
        """
        heard = self.asked(modelId="mesh")
        self.registry.rewrite("m")
        self.registry.rewrite()
        self.assertIsNone(heard.end)

    def test_changeOlderThanTheAsking(self) -> None:
        """
        (U20) The file is seen late: a worker that had gone before the asking
        was not this turn's, which a worker elsewhere may have.
        """
        heard = self.asked()
        self.registry.writtenAt = 0.0
        self.registry.rewrite()
        self.assertIsNone(heard.end)
        self.registry.writtenAt = inf
        self.registry.rewrite("m")
        self.registry.rewrite()
        self.assertEqual(heard.end, Lost(Loss.WORKER_LOST, False))

    def test_askingCostsNoLook(self) -> None:
        """
        The registry's own timer is enough.
        """
        looks: list[None] = []
        self.registry.look = lambda: looks.append(None)  # type: ignore[method-assign]
        self.asked()
        self.daemon.say(chunk("s1", "x"), finish("s1"))
        self.assertEqual(looks, [])

    def test_parkedTurnKnowsItsWorkerOverAReconnect(self) -> None:
        """
        (U20) (X23) What the file named before the loss is not forgotten.
        """
        heard = self.asked()
        assert heard.turn is not None
        heard.turn.park()
        self.reconnect().say(BREATH)
        self.registry.rewrite()
        self.assertEqual(heard.end, Lost(Loss.WORKER_LOST, False))

    def test_oldFileAfterARestart(self) -> None:
        """
        (U20) (U18) What the file says before our hello is in it is the earlier
        daemon's: a prompt asked then is not lost when the file is rewritten
        without workers; it is once they had come.
        """
        self.reconnect().say(BREATH)
        heard = self.asked()
        self.registry.rewrite()
        self.assertIsNone(heard.end)
        self.registry.rewrite("m")
        self.registry.rewrite()
        self.assertEqual(heard.end, Lost(Loss.WORKER_LOST, False))


class RegistrationTests(LinkCase):
    """
    (X26) (X28) Hellos around prompts.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def names(self, tones: list[dict[str, object]]) -> list[tuple[object, list[str]]]:
        """
        Kinds and tool names.
        """
        return [(tone["chi"], [each["name"] for each in tone.get("tools") or []]) for tone in tones]  # type: ignore[attr-defined]

    def written(self) -> list[tuple[object, list[str]]]:
        """
        What was written, in one write.
        """
        self.assertEqual(len(self.daemon.transport.writes), 1)
        return self.names(self.daemon.heard())

    def test_promptThenHello(self) -> None:
        """
        The names are registered behind the prompt, in the same write.
        """
        self.ask(tools=[tool("f"), tool("g")])
        self.assertEqual(self.written(), [("prompt", ["f", "g"]), ("hello", ["f", "g"])])

    def test_whatTheDaemonCannotReadIsRefused(self) -> None:
        """
        (C23) A definition that is nested too deep would cost every later
        hello: nothing is written, and nothing of it is kept.
        """
        schema: dict[str, Any] = {"type": "object"}
        for _ in range(130):
            schema = {"type": "object", "properties": {"a": schema}}
        deep = ToolDefinition(name="deep", description="", inputSchema=schema)
        for members in ({"tools": [tool("f"), deep]}, {"sampling": {"responseFormat": schema}}):
            error = self.assertRaises(APIError, self.ask, **members)
            self.assertEqual(error.kind.status, 400)
            self.assertEqual(self.daemon.heard(), [])
        self.ask(tools=[tool("f")])
        self.assertEqual(self.written(), [("prompt", ["f"]), ("hello", ["f"])])

    def test_promptWithoutToolsAmongOthers(self) -> None:
        """
        (X26) It hides the names of others from its model; they stay registered.
        """
        self.ask(tools=[tool("f")])
        self.daemon.heard()
        self.ask("s2")
        self.assertEqual(self.link.liveTools, {"f": tool("f")})
        [prompt] = self.daemon.heard()
        self.assertEqual(prompt["disallowedTools"], ["mcp__hum__f"])
        self.assertNotIn("tools", prompt)

    def test_sharedNames(self) -> None:
        """
        (X26) An equal definition serves both and is left out of the prompt; the
        others are hidden from it. All stay registered.
        """
        self.ask(tools=[tool("f"), tool("g")])
        self.daemon.heard()
        self.ask("s2", tools=[tool("g"), tool("h")])
        [prompt, hello] = self.daemon.heard()
        self.assertEqual(self.names([prompt, hello]), [("prompt", ["h"]), ("hello", ["f", "g", "h"])])
        self.assertEqual(prompt["disallowedTools"], ["mcp__hum__f"])

    def test_formerNames(self) -> None:
        """
        (X26) What a warm process may say at once is registered before the
        prompt, when that is asked again too, and leaves with its turn.
        """
        self.ask(tools=[tool("f_2")], formerTools=[tool("f")])
        names = [("hello", ["f"]), ("prompt", ["f_2"]), ("hello", ["f", "f_2"])]
        self.assertEqual(self.names(self.daemon.heard()), names)
        self.daemon.say(noWorker("s1"))
        self.clock.advance(5)
        self.assertEqual(self.names(self.daemon.heard()), names)
        self.daemon.say(finish("s1"))
        self.clock.advance(1)
        self.assertEqual(self.names(self.daemon.heard()), [("hello", [])])

    def test_sameTools(self) -> None:
        """
        (X26) Nothing would change: no hello at all.
        """
        self.ask(tools=[tool("f")])
        self.daemon.heard()
        self.ask("s2", tools=[tool("f")])
        self.assertEqual(self.written(), [("prompt", [])])

    def test_sameNameOtherDefinition(self) -> None:
        """
        (X26) Each prompt brings its own; the name is listed once, and withdrawn
        while the second passes.
        """
        self.ask(tools=[tool("f", "one")])
        self.daemon.heard()
        self.ask("s2", tools=[tool("f", "two")])
        hello, prompt, after = self.daemon.heard()
        self.assertEqual(hello["tools"], [])
        self.assertEqual([each["description"] for each in prompt["tools"]], ["two"])
        self.assertEqual([each["name"] for each in after["tools"]], ["f"])

    def test_namesLeaveWithTheirLastTurn(self) -> None:
        """
        (X28) Within a second after the last turn that declared them, in one
        hello for several turns; a draining turn keeps its names.
        """
        one, two, three = (
            self.asked("a", tools=[tool("f")]),
            self.asked("b", tools=[tool("f")]),
            self.asked("c", tools=[tool("g")]),
        )
        assert three.turn is not None and one.turn is not None and two.turn is not None
        three.turn.cancel()
        self.daemon.say(finish("a"))
        self.clock.advance(1)
        self.assertEqual(self.daemon.heardOf("hello"), [])
        self.daemon.say(finish("b"))
        self.daemon.say(finish("c"))
        self.clock.advance(1)
        self.assertEqual(self.names(self.daemon.heard()), [("hello", [])])
        self.clock.advance(5)
        self.assertEqual(self.daemon.heard(), [])

    def test_nextPromptTidiesUp(self) -> None:
        """
        (X28) A prompt that comes before the tidying does it, and none follows.
        """
        self.asked(tools=[tool("f")])
        self.daemon.say(finish("s1"))
        self.ask("s2", tools=[tool("g")])
        self.assertEqual(
            self.names(self.daemon.heard()), [("hello", []), ("prompt", ["g"]), ("hello", ["g"])]
        )
        self.clock.advance(1)
        self.assertEqual(self.daemon.heard(), [])

    def test_lostBeforeTheTidying(self) -> None:
        """
        (X28) The hello of the next connection is tidy from the start.
        """
        self.asked(tools=[tool("f")])
        self.daemon.say(finish("s1"))
        daemon = self.reconnect()
        self.assertEqual(self.names(daemon.heard()), [("hello", [])])

    def test_refusedPromptRegistersNothing(self) -> None:
        """
        A prompt that was refused leaves no names.
        """
        self.daemon.lose()
        self.assertRaises(APIError, self.ask, tools=[tool("f")])
        self.clock.advance(0.05)
        self.assertEqual(self.names(self.daemon.heard()), [("hello", [])])


class UnregisteredTests(LinkCase):
    """
    For daemons that route calls by sid.
    """

    registerTools = False

    def test_noNamesInHellos(self) -> None:
        """
        Prompts carry all their tools, and no hello follows, now or later.
        """
        self.start()
        self.asked(tools=[tool("f")])
        self.daemon.heard()
        self.ask("s2", tools=[tool("f")])
        [prompt] = self.daemon.heard()
        self.assertEqual([each["name"] for each in prompt["tools"]], ["f"])
        self.daemon.say(finish("s1"), finish("s2"))
        self.clock.advance(2)
        self.assertEqual(self.daemon.heard(), [])


class RecentTests(SyncCase):
    """
    The memory of keys.
    """

    def test_addedAgain(self) -> None:
        """
        A key added twice is held once.
        """
        recent = Recent(2)
        recent.add("a")
        recent.add("a")
        self.assertEqual(len(recent), 1)

    def test_addedAgainIsTheLatest(self) -> None:
        """
        A key added again is forgotten after those that were added between.
        """
        recent = Recent(2)
        for key in "abac":
            recent.add(key)
        self.assertEqual([key in recent for key in "abc"], [True, False, True])

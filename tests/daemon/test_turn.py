"""
Tests for L{openai_server.daemon.turn} and L{openai_server.daemon.turnstates}, by way of the link.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.turn import PromptedTurn
from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost, TurnEnd
from openai_server.wire.tones import Chunk, Error, Finish, SessionReady, Shown, ToolCall
from tests.daemon.world import LinkCase, Listening, call, chunk, finish, tool


class Failing(Listening):
    """
    An audience that raises when it is told something.
    """

    def __init__(self, *when: str) -> None:
        super().__init__()
        self._when = when

    def turnEchoed(self) -> None:
        super().turnEchoed()
        if "echoed" in self._when:
            raise RuntimeError("echoed")

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        super().tonesReceived(tones)
        if "tones" in self._when:
            raise RuntimeError("tones")

    def turnEnded(self, end: TurnEnd) -> None:
        super().turnEnded(end)
        if "end" in self._when:
            raise RuntimeError("end")

    def turnOver(self, end: TurnEnd) -> None:
        super().turnOver(end)
        if "over" in self._when:
            raise RuntimeError("over")


class EndTests(LinkCase):
    """
    How turns end by the worker's word.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_finishedTurnIsOver(self) -> None:
        """
        The audience is told tones, end and that the turn is over, in order.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.assertIsNone(heard.over)
        self.daemon.say(
            {"chi": "session-ready", "sid": "s1"}, chunk("s1", "a"), chunk("s1", "b"), finish("s1")
        )
        kinds = [type(each) for each in heard.told]
        self.assertEqual(kinds, [str, SessionReady, Chunk, Chunk, Finish])
        self.assertEqual(len(heard.batches), 1)
        self.assertTrue(heard.turn.isOver)
        self.assertIs(heard.over, heard.end)
        self.assertEqual(heard.turn.sid, "s1")

    def test_wordsAreForgottenAtTheEnd(self) -> None:
        """
        The record of a turn outlives it; the prompt's words do not, also when
        no worker ever showed life.
        """
        heard = self.asked()
        assert isinstance(heard.turn, PromptedTurn)
        self.assertNotEqual(heard.turn.prompt.content, "")
        self.daemon.say({"chi": "error", "sid": "s1", "message": "no"})
        self.assertEqual((heard.turn.isOver, heard.turn.prompt), (True, None))

    def test_errorEndsTurn(self) -> None:
        """
        An error without a call id is the end.
        """
        heard = self.asked()
        self.daemon.say({"chi": "error", "sid": "s1", "message": "m", "code": "worker_error"})
        self.assertIsInstance(heard.end, Error)

    def test_errorOfOneCallIsShown(self) -> None:
        """
        (U7) An error with a call id is shown, and the turn goes on.
        """
        heard = self.asked()
        self.daemon.say(call("s1", "c1"), {"chi": "error", "sid": "s1", "callId": "c1"}, chunk("s1", "on"))
        self.assertEqual([type(tone) for tone in heard.batches[0]], [ToolCall, Error, Chunk])
        self.assertIsNone(heard.end)

    def test_firstEndWins(self) -> None:
        """
        (U12) (U13) Whatever comes after the first end is counted, in each
        order of two ends and a chunk.
        """
        ends = [finish("S"), finish("S", finishReason="error"), {"chi": "error", "sid": "S", "message": "x"}]
        for number, (first, second) in enumerate(permutations(ends, 2)):
            sid = f"s{number}"
            heard = self.asked(sid)
            before = self.link.counts["late_tones"]
            self.daemon.say({**first, "sid": sid}, {**second, "sid": sid}, chunk(sid, "late"))
            self.daemon.say(chunk(sid, "later"))
            self.assertEqual(len(heard.told), 2)
            self.assertEqual(type(heard.end), Error if first["chi"] == "error" else Finish)
            self.assertEqual(self.link.counts["late_tones"] - before, 3)

    def test_lateTonesDoNotReachTheNextTurnOfTheSid(self) -> None:
        """
        (U13) A turn that continues a sid gets nothing that stands before its
        own echo: neither text nor a second finish of the earlier turn.
        """
        self.asked()
        self.daemon.say(finish("s1"))
        self.daemon.heard()
        heard = self.ask()
        rid = self.daemon.heardOf("prompt")[0]["rid"]
        self.daemon.say(chunk("s1", "old"), finish("s1"), call("s1", "c9"))
        self.daemon.say(chunk("s1", "old"), {"chi": "echo", "rid": rid}, chunk("s1", "new"))
        self.assertEqual(heard.told[0], "echoed")
        self.assertEqual(heard.text, "new")
        self.assertIsNone(heard.end)

    def test_turnContinuedWithinItsEndGetsNoRestOfTheBatch(self) -> None:
        """
        (U13) Also when it is asked while the audience is told of the end.
        """
        outer = self
        heard: list[Listening] = []

        class Continuing(Listening):
            def turnEnded(self, end: TurnEnd) -> None:
                heard.append(outer.ask())

        self.askFor(Continuing())
        self.daemon.say(finish("s1"), chunk("s1", "late"))
        self.assertEqual(heard[0].told, [])

    def test_anyOrderOfAShortTurn(self) -> None:
        """
        (U30) Echo, session-ready (twice) and chunks in any order before the
        end give the same text, and the echo is told once.
        """
        tones = ["echo", "echo", "ready", "ready", "chunk"]
        for number, order in enumerate(sorted(set(permutations(tones)))):
            sid = f"s{number}"
            self.daemon.heard()
            heard = self.ask(sid)
            rid = self.daemon.heardOf("prompt")[0]["rid"]
            said = {
                "echo": {"chi": "echo", "rid": rid, "ok": True},
                "ready": {"chi": "session-ready", "sid": sid},
                "chunk": chunk(sid, "text"),
            }
            for name in order:
                self.daemon.say(said[name])
            self.daemon.say(finish(sid))
            self.assertEqual(heard.text, "text")
            self.assertEqual(heard.told.count("echoed"), 1)
            self.assertIsInstance(heard.end, Finish)

    def test_finishBeforeTheEcho(self) -> None:
        """
        (U30) A turn may end before its echo, which is then ignored.
        """
        heard = self.ask()
        rid = self.daemon.heardOf("prompt")[0]["rid"]
        self.daemon.say(finish("s1"), {"chi": "echo", "rid": rid})
        self.assertEqual([type(each) for each in heard.told], [Finish])

    def test_oddDeltasPass(self) -> None:
        """
        (U15) A delta that is missing, null, empty or no string harms nothing.
        """
        heard = self.asked()
        odd = [chunk("s1", "x"), *(chunk("s1", "", delta=delta) for delta in (None, 5, [], {}))]
        del odd[0]["delta"]
        self.daemon.say(*odd, chunk("s1", "end"))
        self.assertEqual(len(heard.batches[0]), 6)
        self.assertIsNone(heard.end)


class DeadlineTests(LinkCase):
    """
    Nothing that goes silent is waited for without end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def beat(self, seconds: float) -> None:
        """
        Let time pass on a living connection.
        """
        while seconds > 0:
            step = min(5.0, seconds)
            self.clock.advance(step)
            self.daemon.say({"chi": "pulse"})
            seconds -= step

    def lost(self, heard: Listening, why: Loss, seen: bool) -> None:
        """
        The audience was told of this loss, and cancel went out once.
        """
        self.assertEqual(heard.end, Lost(why, seen))
        self.assertEqual(len(self.daemon.heardOf("cancel")), 1)
        assert heard.turn is not None
        self.assertFalse(heard.turn.isOver)

    def test_noEcho(self) -> None:
        """
        (S16) Without an echo for 10 s the turn is cancelled.
        """
        heard = self.ask()
        self.beat(9.9)
        self.assertEqual(heard.told, [])
        self.beat(0.1)
        self.lost(heard, Loss.NO_ECHO, False)

    def test_noSignOfLife(self) -> None:
        """
        (U2) The worker has 370 s from the echo.
        """
        heard = self.asked()
        self.beat(369.9)
        self.assertEqual(heard.told, ["echoed"])
        self.beat(0.1)
        self.lost(heard, Loss.NO_LIFE, False)

    def test_stalled(self) -> None:
        """
        (U3) (S20) (U27) 900 s after the last tone, however many came before;
        tones for nobody do not count.
        """
        heard = self.asked()
        self.daemon.say({"chi": "session-ready", "sid": "s1"})
        self.beat(800)
        self.daemon.say(chunk("s1", "a"))
        self.beat(899.9)
        self.daemon.say({"chi": "permission-ask", "sid": "s1"})
        self.assertIsNone(heard.end)
        self.beat(0.1)
        self.lost(heard, Loss.STALLED, True)

    def test_sessionReadyIsLifeButNothingSeen(self) -> None:
        """
        (U3) A turn that showed only session-ready may be asked again.
        """
        heard = self.asked()
        self.daemon.say({"chi": "session-ready", "sid": "s1"})
        self.beat(900)
        self.lost(heard, Loss.STALLED, False)

    def test_endlessTurn(self) -> None:
        """
        (U4) A turn that goes on and on ends after an hour.
        """
        heard = self.asked()
        for _ in range(12):
            self.beat(299)
            self.daemon.say(chunk("s1", "x"))
        self.assertIsNone(heard.end)
        self.beat(12)
        self.lost(heard, Loss.TOO_LONG, True)

    def test_parkedTurnMayBeSilent(self) -> None:
        """
        Silence counts only while nothing is awaited: from the resume on.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        heard.turn.park()
        self.beat(1500)
        self.assertIsNone(heard.end)
        heard.turn.resume()
        self.beat(899.9)
        self.assertIsNone(heard.end)
        self.beat(0.1)
        self.lost(heard, Loss.STALLED, True)

    def test_settlingTurnIsToldAndWatched(self) -> None:
        """
        (X20) A settling turn is not cancelled, its audience is told, and its
        silence counts.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        heard.turn.park()
        heard.turn.settle()
        self.daemon.say(chunk("s1", "bye"))
        self.assertEqual(heard.text, "bye")
        self.assertEqual(self.daemon.heardOf("cancel"), [])
        self.beat(900)
        self.lost(heard, Loss.STALLED, True)

    def test_steppedClockEndsNothing(self) -> None:
        """
        (V8) The wall clock jumps two hours: no deadline passes early.
        """
        heard = self.asked()
        self.clock.step(7200)
        self.assertEqual(heard.told, ["echoed"])
        self.beat(370)
        self.lost(heard, Loss.NO_LIFE, False)

    def test_pastDusk(self) -> None:
        """
        (S17) Nothing ran: the turn is over at once, and nothing is cancelled.
        """
        heard = self.ask()
        rid = self.daemon.heardOf("prompt")[0]["rid"]
        self.daemon.say({"chi": "echo", "rid": rid, "ok": False, "error": "past dusk"})
        self.assertEqual(heard.told, [Lost(Loss.PAST_DUSK, False)])
        assert heard.turn is not None
        self.assertTrue(heard.turn.isOver)
        self.assertEqual(self.daemon.heard(), [])

    def test_oddEchoes(self) -> None:
        """
        (S18) A second echo, one for an unknown rid, and one after the end are ignored.
        """
        heard = self.ask()
        rid = self.daemon.heardOf("prompt")[0]["rid"]
        echo = {"chi": "echo", "rid": rid}
        self.daemon.say(echo, {**echo, "ok": False}, {"chi": "echo", "rid": "r-1"})
        self.daemon.say(finish("s1"), echo)
        self.assertEqual([type(each) for each in heard.told], [str, Finish])

    def test_manyTurnsFewTimers(self) -> None:
        """
        All turns have one timer, however many tones come.
        """
        before = len(self.clock.getDelayedCalls())
        for number in range(100):
            sid = f"s{number}"
            self.asked(sid)
            self.daemon.say(chunk(sid, "a"), chunk(sid, "b"))
        self.assertLessEqual(len(self.clock.getDelayedCalls()) - before, 1)

    def test_turnsOfTheDaemonLeaveNoEntries(self) -> None:
        """
        The deadlines of turns that are over do not pile up.
        """
        for _ in range(1000):
            self.asked()
            self.daemon.say(finish("s1"))
        self.assertLess(len(self.link._router.deadlines), 300)


class CancelTests(LinkCase):
    """
    Nobody wants the turn any more.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_cancelledTurnDrains(self) -> None:
        """
        (U24) Cancel is sent once; text, calls and the end go to nobody; whoever
        waits for its real end gets it.
        """
        heard = self.asked()
        assert heard.turn is not None
        heard.turn.cancel()
        heard.turn.cancel()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["cancel"])
        self.daemon.say(chunk("s1", "late"), call("s1", "c1"))
        [answer] = self.daemon.heard()
        self.assertEqual((answer["callId"], answer["isError"]), ("c1", True))
        self.assertIsNone(heard.over)
        self.assertFalse(heard.turn.isOver)
        self.daemon.say(finish("s1"))
        self.assertIsInstance(heard.over, Finish)
        self.assertEqual(heard.told, ["echoed"])
        self.assertEqual(self.link.counts["late_tones"], 1)

    def test_leftTurnIsHeard(self) -> None:
        """
        (K21) Cancel is sent once, also when the turn is cancelled later; all
        that comes is told.
        """
        heard = self.asked()
        assert heard.turn is not None
        heard.turn.leave()
        heard.turn.leave()
        self.daemon.say(chunk("s1", "late"))
        self.assertEqual((heard.text, heard.turn.isOver), ("late", False))
        heard.turn.cancel()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["cancel"])
        self.daemon.say(finish("s1"))
        self.assertIsInstance(heard.over, Finish)

    def test_leftWithoutAConnection(self) -> None:
        """
        (K21) It is over, and its end is told.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.patch(type(self.link._router), "isReady", False)
        heard.turn.leave()
        self.assertTrue(heard.turn.isOver)
        self.assertEqual(heard.end, Lost(Loss.DAEMON_LOST, False))

    def test_cancelBeforeTheEcho(self) -> None:
        """
        (U25) Cancelling before the worker knows of it is the same.
        """
        heard = self.ask()
        assert heard.turn is not None
        heard.turn.cancel()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["prompt", "cancel"])
        self.daemon.say(chunk("s1", "late"), finish("s1"))
        self.assertEqual(heard.told, [])
        self.assertTrue(heard.turn.isOver)

    def test_drainingTurnIsForgotten(self) -> None:
        """
        (U24) After 600 s, whatever still comes.
        """
        heard = self.asked()
        assert heard.turn is not None
        heard.turn.cancel()
        for _ in range(119):
            self.clock.advance(5)
            self.daemon.say(chunk("s1", "late"))
        self.assertFalse(heard.turn.isOver)
        self.clock.advance(5)
        self.assertEqual(heard.over, Lost(Loss.DRAIN_LIMIT, False))

    def test_sidOfADrainingTurnIsTaken(self) -> None:
        """
        (U26) Asking on it is a programming error, and sends nothing.
        """
        heard = self.asked()
        assert heard.turn is not None
        heard.turn.cancel()
        self.daemon.heard()
        self.assertRaises(ValueError, self.ask)
        self.assertEqual(self.daemon.heard(), [])

    def test_openCallsOfACancelledTurnAreAnswered(self) -> None:
        """
        The model of a parked turn waits: its open calls fail at once, each once.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"), call("s1", "c2"), call("s1", "c3"))
        heard.turn.park()
        heard.turn.answer("c1", "f", "fine", False)
        self.daemon.heard()
        heard.turn.cancel()
        told = [(tone["chi"], tone.get("callId"), tone.get("isError")) for tone in self.daemon.heard()]
        self.assertEqual(
            told, [("cancel", None, None), ("tool-result", "c2", True), ("tool-result", "c3", True)]
        )
        self.daemon.say(call("s1", "c3"))
        self.assertEqual(self.daemon.heard(), [])

    def test_cancelledWhileToldAnswersTheCallsOfThatRead(self) -> None:
        """
        A call that came in the same read as the text at which the audience
        gave up is answered too.
        """

        class GivingUp(Listening):
            def tonesReceived(self, tones: Sequence[Shown]) -> None:
                super().tonesReceived(tones)
                assert self.turn is not None
                self.turn.cancel()

        self.askFor(GivingUp())
        self.daemon.heard()
        self.daemon.say(chunk("s1", "a"), call("s1", "c1"))
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["cancel", "tool-result"])

    def test_nothingAfterTheEnd(self) -> None:
        """
        (I4) Nothing is sent for a turn that is over.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"), finish("s1"))
        self.assertEqual([tone["isError"] for tone in self.daemon.heard()], [True])
        heard.turn.cancel()
        heard.turn.park()
        heard.turn.resume()
        heard.turn.settle()
        heard.turn.answer("c1", "f", "x", False)
        self.assertEqual(self.daemon.heard(), [])


class AnswerTests(LinkCase):
    """
    The results of calls.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.heard = self.asked(tools=[tool("f")])
        self.daemon.heard()

    def test_answerIsOneResult(self) -> None:
        """
        (X18) The text goes out twice in one tone, as workers read it, once.
        """
        assert self.heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        self.heard.turn.answer("c1", "f", "rain", False)
        self.heard.turn.answer("c1", "f", "snow", False)
        [answer] = self.daemon.heard()
        self.assertTrue(answer.pop("rid"))
        self.assertEqual(
            answer,
            {
                "chi": "tool-result", "sid": "s1", "callId": "c1", "toolName": "f",
                "output": "rain", "result": "rain", "isError": False,
            },
        )  # fmt: skip
        self.assertEqual(self.link.counts["unsent_results"], 1)

    def test_unknownCallIsNotAnswered(self) -> None:
        """
        A result for a call that nobody made is not sent.
        """
        assert self.heard.turn is not None
        self.heard.turn.answer("c7", "f", "x", False)
        self.assertEqual(self.daemon.heard(), [])

    def test_sameCallTwiceIsShownOnce(self) -> None:
        """
        (X13) Also with other arguments.
        """
        self.daemon.say(call("s1", "c1"), call("s1", "c1", args={"a": 1}))
        self.daemon.say(call("s1", "c1"))
        self.assertEqual([len(batch) for batch in self.heard.batches], [1])
        self.assertEqual(self.link.counts["double_calls"], 2)

    def test_sameCallIdInTwoSids(self) -> None:
        """
        (X14) Each is its own.
        """
        other = self.asked("s2")
        self.daemon.say(call("s1", "c1"), call("s2", "c1"))
        assert self.heard.turn is not None and other.turn is not None
        other.turn.answer("c1", "f", "two", False)
        self.heard.turn.answer("c1", "f", "one", False)
        told = [(tone["sid"], tone["output"]) for tone in self.daemon.heard()]
        self.assertEqual(told, [("s2", "two"), ("s1", "one")])

    def test_unroutedCallIsShownAndNeverAnswered(self) -> None:
        """
        (U32) A call with a sigil is shown as it is and counted; a result would
        be dropped by the daemon and is not sent, by nobody.
        """
        self.daemon.say(call("s1", "c1", sigil="2ee3337e45f2"))
        [shown] = self.heard.batches[0]
        assert isinstance(shown, ToolCall) and self.heard.turn is not None
        self.assertEqual(shown.sigil, "2ee3337e45f2")
        self.heard.turn.answer("c1", "f", "x", False)
        self.heard.turn.cancel()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["cancel"])
        self.assertEqual(self.link.counts["unrouted_calls"], 1)

    def test_answerWithoutAConnection(self) -> None:
        """
        (X23) While the daemon is away the result is refused and may be given
        again when it is back.
        """
        turn = self.heard.turn
        assert turn is not None
        self.daemon.say(call("s1", "c1"))
        turn.park()
        self.daemon.lose()
        failure = self.assertRaises(APIError, turn.answer, "c1", "f", "x", False)
        self.assertEqual((failure.name, failure.retryAfter), ("daemon_unavailable", 1))
        self.clock.advance(0.05)
        self.daemon.say({"chi": "breath", "protoVersion": "0.7.0"})
        self.daemon.heard()
        turn.answer("c1", "f", "x", False)
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["tool-result"])


class FaultTests(LinkCase):
    """
    (P10) An exception in one audience concerns its turn alone.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def failing(self, *when: str) -> Failing:
        """
        Ask for an audience that raises then.
        """
        heard = self.askFor(Failing(*when), "bad")
        self.rid = self.daemon.heardOf("prompt")[0]["rid"]
        return heard

    def test_raisingAtTones(self) -> None:
        """
        (P10) That turn is cancelled and told so; the others' tones of the same
        read arrive; the connection stays; one log event.
        """
        bad, good = self.failing("tones"), self.asked("good")
        self.daemon.say(chunk("bad", "x"), chunk("good", "y"), chunk("bad", "z"))
        self.daemon.say(chunk("bad", "x"), chunk("good", "y"))
        self.assertEqual(good.text, "yy")
        self.assertEqual(bad.end, Lost(Loss.FAULT, True))
        self.assertEqual(len(self.daemon.heardOf("cancel")), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertFalse(self.daemon.transport.disconnecting)

    def test_raisingAtTheEcho(self) -> None:
        """
        (P10) The same at the echo.
        """
        bad = self.failing("echoed")
        self.daemon.say({"chi": "echo", "rid": self.rid})
        self.assertEqual(bad.end, Lost(Loss.FAULT, False))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_raisingAtTheEnd(self) -> None:
        """
        (P10) A raise at the end is logged, and the turn is over all the same.
        """
        bad = self.failing("end")
        self.daemon.say(finish("bad"))
        assert bad.turn is not None
        self.assertTrue(bad.turn.isOver)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_raisingWhenOver(self) -> None:
        """
        (P10) A raise at the very end is logged, and the others go on.
        """
        bad, good = self.failing("over"), self.asked("good")
        self.daemon.say(finish("bad"), chunk("good", "y"))
        self.assertIsInstance(bad.over, Finish)
        self.assertEqual(good.text, "y")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_endedBeforeItIsOver(self) -> None:
        """
        A turn that is given up has ended for its audience at once, and is over
        when its worker is done.
        """
        bad = self.failing("tones")
        self.daemon.say(chunk("bad", "x"))
        self.assertEqual((bad.end, bad.over), (Lost(Loss.FAULT, True), None))
        self.daemon.say(finish("bad"))
        self.assertIsInstance(bad.over, Finish)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_raisingAlways(self) -> None:
        """
        (P10) An audience that raises again when it is told of its own fault is
        logged once.
        """
        self.failing("tones", "end")
        self.daemon.say(chunk("bad", "x"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class StateTests(LinkCase):
    """
    Any calls in any order.
    """

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.sampled_from(
                ["park", "resume", "settle", "cancel", "chunk", "call", "finish", "wait", "answer"]
            )
        )
    )
    def test_endsOnceWhateverIsDone(self, steps: list[str]) -> None:
        """
        Whatever is done to a turn, its audience is told at most one end and
        nothing after it, and a cancelled turn is told nothing.
        """
        case = LinkCase("setUp")
        case.setUp()
        case.start()
        heard = case.asked()
        turn = heard.turn
        assert turn is not None
        cancelled = False
        for number, step in enumerate(steps):
            before = len(heard.told)
            match step:
                case "chunk":
                    case.daemon.say(chunk("s1", "x"))
                case "call":
                    case.daemon.say(call("s1", f"c{number}"))
                case "finish":
                    case.daemon.say(finish("s1"))
                case "wait":
                    case.clock.advance(9)
                    case.daemon.say({"chi": "pulse"})
                case "answer":
                    turn.answer(f"c{number - 1}", "f", "x", False)
                case _:
                    getattr(turn, step)()
            if cancelled or (before and not isinstance(heard.told[before - 1], str | Chunk | ToolCall)):
                self.assertEqual(len(heard.told), before)
            cancelled = cancelled or step == "cancel"
        self.assertEqual(heard.over is not None, turn.isOver)
        results = [tone["callId"] for tone in case.daemon.heardOf("tool-result")]
        self.assertEqual(len(results), len(set(results)))
        case.nothingIsLeft()

"""
Tests for L{openai_server.sessions.conversation}: one turn over several answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from openai_server.api.output import Failed, Finished, Usage
from openai_server.daemon.interfaces import Audience, Turn
from openai_server.errors import APIError
from openai_server.metrics import Counters
from openai_server.sessions.calls import CallState, CallTable, ParkedCall
from openai_server.sessions.chains import Chain
from openai_server.sessions.contexts import contextFrom
from openai_server.sessions.conversation import (
    LATE_RESULT,
    UNHEARD_CHARACTERS,
    UNHEARD_TONES,
    UNKNOWN_TOOL,
    Conversation,
    Phase,
)
from openai_server.sessions.plans import Session
from openai_server.sessions.turncontext import TurnContext
from openai_server.wire.ends import Loss, Lost, TurnEnd
from openai_server.wire.tones import (
    HIVE,
    Chunk,
    Error,
    Finish,
    Prompt,
    SessionReady,
    Shown,
    ToolCall,
    ToolDefinition,
)
from tests.support import SyncCase, TestClock

SID = "s1"
GOOD = Finish(sid=SID, finishReason="success")


def text(said: str) -> Chunk:
    """
    A delta of text.
    """
    return Chunk(sid=SID, chunkType="text_delta", delta=said)


STOP = Chunk(sid=SID, chunkType="content_block_stop")


def call(callId: str, name: str = "weather", sigil: str | None = None) -> ToolCall:
    """
    A call as the worker tells it.
    """
    return ToolCall(sid=SID, callId=callId, toolName=name, name=name, args={"q": callId}, sigil=sigil)


class FakeTurn:
    """
    Records what is asked of a turn.
    """

    sid = SID

    def __init__(self) -> None:
        self.isOver = False
        self.done: list[tuple[object, ...]] = []
        self.isConnected = True

    def cancel(self) -> None:
        self.done.append(("cancel",))

    def park(self) -> None:
        self.done.append(("park",))

    def resume(self) -> None:
        self.done.append(("resume",))

    def settle(self) -> None:
        self.done.append(("settle",))

    def answer(self, callId: str, toolName: str, text: str, isError: bool) -> None:
        if not self.isConnected:
            raise APIError("daemon_unavailable", "away", retryAfter=1)
        self.done.append(("answer", callId, toolName, text, isError))



class FakeSlot:
    """
    Records what becomes of a slot.
    """

    model = "m"

    def __init__(self) -> None:
        self.done: list[str] = []

    def showedLife(self) -> None:
        self.done.append("life")

    def sawOthers(self, names: Sequence[str]) -> None:
        self.done.append(f"saw {', '.join(names)}")

    def drain(self) -> None:
        self.done.append("drain")

    def release(self) -> None:
        self.done.append("release")


class FakeAnswer:
    """
    Records what an answer is told.
    """

    asked: bytes | None = None
    ended: Finished | Failed | None = None

    def __init__(self) -> None:
        self.told: list[object] = []
        self.calls: list[ParkedCall] = []
        self.batches: list[int] = []

    def usage(self) -> Usage:
        return Usage(input=10, output=len(self.told))

    def turnEchoed(self) -> None:
        self.told.append("echo")

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        self.batches.append(len(tones))
        self.told += [tone.delta if isinstance(tone, Chunk) else tone for tone in tones]

    def calledTools(self, calls: Sequence[ParkedCall]) -> None:
        self.calls = list(calls)
        self.told.append([made.callId for made in calls])

    def turnEnded(self, end: TurnEnd) -> None:
        self.told.append(end)

    def failed(self, error: APIError) -> None:
        self.told.append(error.name)


PROMPT = Prompt(rid="r1", sid="s1", hive=HIVE, modelId="m", content="x")


class FakeDaemon:
    """
    Gives the turn that it is made with.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def ask(self, prompt: Prompt, audience: Audience, formerTools: Sequence[ToolDefinition] = ()) -> Turn:
        return self._turn


class ConversationCase(SyncCase):
    """
    A conversation that was begun, with what is around it.
    """

    isParallel = True

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.table = CallTable(self.clock)
        self.turn = FakeTurn()
        self.slot = FakeSlot()
        self.counters = Counters()
        self.answer = FakeAnswer()
        context = TurnContext(
            account="account",
            api="chat",
            session=Session("account", contextFrom("m", "", None), Chain()),
            names={"weather": "weather", "weather_2": "weather", "t_1": "odd name"},
            customTools=frozenset(),
            foreignTools={"theirs"},
            parallel=self.isParallel,
            parkTimeout=50.0,
        )
        self.conversation = Conversation(self.clock, context, self.table, self.slot, self.counters)
        self.conversation.begin(self.answer, FakeDaemon(self.turn), PROMPT)

    def park(self, *callIds: str) -> Sequence[ParkedCall]:
        """
        Let the model make these calls, and hand them out.
        """
        self.conversation.tonesReceived([call(callId) for callId in callIds])
        self.clock.advance(0.02)
        self.turn.done.clear()
        return self.answer.calls

    def end(self, end: TurnEnd = GOOD) -> None:
        """
        The worker ends the turn.
        """
        self.turn.isOver = True
        self.conversation.turnEnded(end)
        self.conversation.turnOver(end)

    def assertNothingLeft(self) -> None:
        """
        No timer runs, no call is open.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.table), 0)


class PlainTests(ConversationCase):
    """
    A turn without calls.
    """

    def test_tonesReachTheAnswerUnchanged(self) -> None:
        """
        Echo, tones and end are passed on; the slot is released at the end.
        """
        self.conversation.turnEchoed()
        self.conversation.tonesReceived([SessionReady(sid=SID)])
        self.conversation.tonesReceived([text("a"), text("b")])
        self.end()
        self.assertEqual(self.answer.told, ["echo", "a", "b", GOOD])
        self.assertEqual(self.slot.done, ["life", "release"])
        self.assertTrue(self.conversation.hasEndedWell)
        self.assertNothingLeft()

    def test_textBesideOtherTonesStaysTogether(self) -> None:
        """
        Each run of chunks is told at once, whatever came with it.
        """
        self.conversation.tonesReceived(
            [SessionReady(sid=SID), text("a"), text("b"), call("c1"), text("c"), STOP]
        )
        self.assertEqual(self.answer.told[:3], ["a", "b", "c"])
        self.assertEqual(self.answer.batches, [2, 2])

    def test_turnThatWasGivenUpDrainsItsSlot(self) -> None:
        """
        Its worker goes on, whatever the deadline was: the slot is not held
        until that ends (U24).
        """
        self.conversation.turnEnded(Lost(Loss.NO_LIFE, False))
        self.assertEqual(self.slot.done, ["drain"])
        self.conversation.turnOver(Lost(Loss.DRAIN_LIMIT, False))
        self.assertEqual(self.slot.done, ["drain", "release"])

    def test_cancelledTurnDrainsItsSlotAndTellsNobody(self) -> None:
        """
        The turn is cancelled once, and late tones reach nobody.
        """
        self.conversation.cancel()
        self.conversation.cancel()
        self.assertEqual(self.turn.done, [("cancel",)])
        self.assertEqual(self.slot.done, ["drain"])
        self.conversation.turnOver(GOOD)
        self.assertEqual(self.slot.done, ["drain", "release"])
        self.assertFalse(self.conversation.hasEndedWell)
        self.assertEqual(self.answer.told, [])

    def test_badEndsAreNotGood(self) -> None:
        """
        Only a finish without exit code and without an error's reason ends well.
        """
        for end in (
            Finish(sid=SID, finishReason="stop", exitCode=0),
            Finish(sid=SID, finishReason="error_during_execution"),
            Finish(sid=SID, finishReason="cancelled"),
            Error(sid=SID, message="no"),
            Lost(Loss.STALLED, True),
        ):
            self.setUp()
            self.end(end)
            self.assertFalse(self.conversation.hasEndedWell, end)


class CatalogueTests(ConversationCase):
    """
    What C{session-ready} says of the tools that the model sees (U31).
    """

    def differences(self, *tools: object) -> int:
        """
        How many differences are counted for these tools.
        """
        self.conversation.tonesReceived([SessionReady(sid=SID, tools=list(tools))])
        return self.counters.total("catalogue_differences")

    def test_exactlyTheOfferedToolsAreRight(self) -> None:
        """
        The worker's own tools and those of other bees do not count.
        """
        self.assertEqual(
            self.differences("Bash", "mcp__hum__weather", "mcp__hum__t_1", "mcp__hum__theirs", "mcp__x__y"), 0
        )

    def test_anyNameOfTheSessionIsRight(self) -> None:
        """
        A warm process sees a tool by an earlier name than one that was started
        anew.
        """
        self.assertEqual(self.differences("mcp__hum__weather_2", "mcp__hum__t_1"), 0)

    def test_missingToolIsCounted(self) -> None:
        """
        The model does not see one of its own.
        """
        self.assertEqual(self.differences("mcp__hum__weather"), 1)

    def test_surplusToolIsCounted(self) -> None:
        """
        The model sees one of another request's.
        """
        self.assertEqual(self.differences("mcp__hum__weather", "mcp__hum__t_1", "mcp__hum__other"), 1)
        self.assertIn("saw other", self.slot.done)

    def test_absentListSaysNothing(self) -> None:
        """
        A worker may not tell.
        """
        self.conversation.tonesReceived([SessionReady(sid=SID)])
        self.assertEqual(self.counters.total("catalogue_differences"), 0)


class HandOutTests(ConversationCase):
    """
    Calls on their way to the client.
    """

    def test_callsWithinTheWindowLeaveTogether(self) -> None:
        """
        Each call puts the window off; then all end the answer and the turn is
        parked (X11, X12).
        """
        self.conversation.tonesReceived([call("c1")])
        self.clock.advance(0.015)
        self.conversation.tonesReceived([call("c2")])
        self.clock.advance(0.015)
        self.assertEqual(self.answer.told, [])
        self.clock.advance(0.006)
        self.assertEqual(self.answer.told, [["c1", "c2"]])
        self.assertEqual(self.turn.done, [("park",)])
        self.assertTrue(self.conversation.isParked)

    def test_callAfterTheHandOutWaitsForTheNextAnswer(self) -> None:
        """
        The second call comes 50 ms later: it is kept, and opens the answer
        that brings the first one's result (X12).
        """
        [first] = self.park("c1")
        self.clock.advance(0.05)
        self.conversation.tonesReceived([call("c2")])
        second = FakeAnswer()
        self.conversation.resume([(first, "rain")], second)
        self.clock.advance(0.02)
        self.assertEqual(second.told, ["echo", ["c2"]])
        self.assertIn(("answer", "c1", "weather", "rain", False), self.turn.done)

    def test_openBlockIsWaitedForAndItsEndHandsOut(self) -> None:
        """
        Text that is being streamed goes out before the calls.
        """
        self.conversation.tonesReceived([text("Let me ")])
        self.conversation.tonesReceived([call("c1")])
        self.clock.advance(0.02)
        self.assertEqual(self.answer.told, ["Let me "])
        self.conversation.tonesReceived([text("see.")])
        self.conversation.tonesReceived([STOP])
        self.assertEqual(self.answer.told, ["Let me ", "see.", None, ["c1"]])

    def test_blockThatNeverEndsIsNotWaitedForLongerThanASecond(self) -> None:
        """
        The wait for the block is bounded.
        """
        self.conversation.tonesReceived([text("Let me ")])
        self.conversation.tonesReceived([call("c1")])
        self.clock.pump([0.02, 0.99])
        self.assertEqual(self.answer.told, ["Let me "])
        self.clock.advance(0.02)
        self.assertEqual(self.answer.told, ["Let me ", ["c1"]])

    def test_undeclaredToolIsAnsweredAtOnceAndNeverShown(self) -> None:
        """
        The model reads an error; the client sees nothing (X15).
        """
        self.conversation.tonesReceived([call("c1", "other")])
        self.assertEqual(self.turn.done, [("answer", "c1", "other", UNKNOWN_TOOL, True)])
        self.clock.advance(1)
        self.assertEqual(self.answer.told, [])
        self.assertEqual(self.counters.total("undeclared_calls"), 1)

    def test_undeclaredToolThatNobodyCanAnswerFailsTheTurn(self) -> None:
        """
        It carries a sigil: its result would be dropped (X15).
        """
        self.conversation.tonesReceived([call("c1", "other", sigil="abcdef012345"), text("more")])
        self.assertEqual(self.answer.told, ["tool_route_lost"])
        self.assertEqual(self.turn.done, [("cancel",)])

    def test_unroutedCallIsHandedOutAndItsTurnDrains(self) -> None:
        """
        Its result has to go into a fresh turn: the call is late from the
        beginning (U32).
        """
        self.conversation.tonesReceived([call("c1", sigil="abcdef012345")])
        self.clock.advance(0.02)
        self.assertEqual(self.answer.told, [["c1"]])
        self.assertEqual(self.turn.done, [("cancel",)])
        self.assertIs(self.answer.calls[0].state, CallState.LATE)
        self.assertFalse(self.conversation.isParked)

    def test_tooManyOpenCallsFailTheTurn(self) -> None:
        """
        A model that goes mad does not make the server grow.
        """
        self.conversation.tonesReceived([call(f"c{n}") for n in range(200)])
        self.assertEqual(self.answer.told, ["worker_error"])
        self.assertEqual(self.turn.done, [("cancel",)])
        self.assertNothingLeft()

    def test_failedCallIsTakenOut(self) -> None:
        """
        An error that names a call concerns that call alone (U7).
        """
        self.conversation.tonesReceived([call("c1"), call("c2"), Error(sid=SID, message="no", callId="c1")])
        self.clock.advance(0.02)
        self.assertEqual(self.answer.told, [["c2"]])

    def test_parkedTurnWhoseOnlyCallFailedSettles(self) -> None:
        """
        The model goes on without the result, and nobody hears it (U7).
        """
        [shown] = self.park("c1")
        self.conversation.tonesReceived([Error(sid=SID, message="no", callId="c1"), text("Well.")])
        self.assertEqual(self.turn.done, [("settle",)])
        self.assertIs(shown.state, CallState.CLOSED)
        self.end()
        self.assertNothingLeft()

    def test_errorForAnUnknownCallChangesNothing(self) -> None:
        """
        It is not the turn's end (U7).
        """
        self.conversation.tonesReceived([Error(sid=SID, message="no", callId="c9"), text("on")])
        self.assertEqual(self.answer.told, ["on"])

    def test_endWithinTheWindowEndsTheAnswer(self) -> None:
        """
        A turn that is over waits for no result: the answer ends as it did.
        """
        self.conversation.tonesReceived([call("c1")])
        self.end()
        self.clock.advance(1)
        self.assertEqual(self.answer.told, [GOOD])
        self.assertNothingLeft()


class OneAtATimeTests(ConversationCase):
    """
    C{parallel_tool_calls: false}.
    """

    isParallel = False

    def test_eachAnswerHandsOutOneCall(self) -> None:
        """
        The second call of the same moment opens the next answer.
        """
        [first] = self.park("c1", "c2")
        second = FakeAnswer()
        self.conversation.resume([(first, "rain")], second)
        self.clock.advance(0.02)
        self.assertEqual(self.answer.told, [["c1"]])
        self.assertEqual(second.told, ["echo", ["c2"]])


class ResumeTests(ConversationCase):
    """
    Results on their way to the model.
    """

    def test_resultsGoOutOnceAndTheTurnGoesOn(self) -> None:
        """
        Each result is sent as it came; the next answer attends the same turn
        (X18).
        """
        first, second = self.park("c1", "c2")
        answer = FakeAnswer()
        self.conversation.resume([(second, "snow"), (first, "rain")], answer)
        self.assertEqual(
            self.turn.done,
            [
                ("answer", "c2", "weather", "snow", False),
                ("answer", "c1", "weather", "rain", False),
                ("resume",),
            ],
        )
        self.conversation.tonesReceived([text("Mixed.")])
        self.end()
        self.assertEqual(answer.told, ["echo", "Mixed.", GOOD])
        self.assertNothingLeft()

    def test_resultOfACallThatFailedMeanwhileIsNotSent(self) -> None:
        """
        The model has had its error; the other call gets its result (U7).
        """
        first, second = self.park("c1", "c2")
        self.conversation.tonesReceived([Error(sid=SID, message="no", callId="c1")])
        self.conversation.resume([(first, "rain"), (second, "snow")], FakeAnswer())
        self.assertEqual(self.turn.done, [("answer", "c2", "weather", "snow", False), ("resume",)])

    def test_givenUpCallThatFailedMeanwhileIsNotAnswered(self) -> None:
        """
        Nor is it when the client goes on without the results.
        """
        first, second = self.park("c1", "c2")
        self.conversation.tonesReceived([Error(sid=SID, message="no", callId="c1")])
        self.conversation.giveUp([(first, "rain"), (second, "snow")])
        self.assertEqual(self.turn.done, [("answer", "c2", "weather", "snow", False), ("cancel",)])

    def test_echoBehindTheHandOutReachesNobody(self) -> None:
        """
        Tones may come in any order (U30).
        """
        self.park("c1")
        told = list(self.answer.told)
        self.conversation.turnEchoed()
        self.assertEqual(self.answer.told, told)

    def test_parkedTurnThatWaitsForWhatNobodyCanGiveIsCancelled(self) -> None:
        """
        There is no answer to be told of it (X15).
        """
        self.park("c1")
        self.conversation.tonesReceived([call("c2", "other", sigil="abcdef012345")])
        self.assertEqual(self.turn.done, [("cancel",)])
        self.assertTrue(self.conversation.isOver)

    def test_textThatNobodyHeardComesFirst(self) -> None:
        """
        What arrived while the turn was parked opens the next answer.
        """
        [first] = self.park("c1")
        self.conversation.tonesReceived([SessionReady(sid=SID), text("by the way")])
        answer = FakeAnswer()
        self.conversation.resume([(first, "rain")], answer)
        self.assertEqual(answer.told, ["echo", "by the way"])

    def test_absentDaemonKeepsThePark(self) -> None:
        """
        Nothing is sent, and the same results may be given again (X23).
        """
        [first] = self.park("c1")
        self.turn.isConnected = False
        self.assertRaises(APIError, self.conversation.resume, [(first, "rain")], FakeAnswer())
        self.assertTrue(self.conversation.isParked)
        self.turn.isConnected = True
        self.conversation.resume([(first, "rain")], FakeAnswer())
        self.assertEqual(self.turn.done, [("answer", "c1", "weather", "rain", False), ("resume",)])

    def test_parkedTurnThatSaysTooMuchIsCancelled(self) -> None:
        """
        What nobody hears is bounded.
        """
        self.park("c1")
        self.conversation.tonesReceived([text("x")] * (UNHEARD_TONES + 1))
        self.assertEqual(self.turn.done, [("cancel",)])
        self.assertNothingLeft()

    def test_parkedTurnWithOneHugeTextIsCancelled(self) -> None:
        """
        Their size counts, not only their number.
        """
        self.park("c1")
        self.conversation.tonesReceived([text("x" * (UNHEARD_CHARACTERS + 1))])
        self.assertEqual(self.turn.done, [("cancel",)])

    def test_parkedTurnThatIsLostExpiresItsCalls(self) -> None:
        """
        The client's result is late then (U19).
        """
        [first] = self.park("c1")
        self.end(Lost(Loss.DAEMON_LOST, True))
        self.assertIs(first.state, CallState.LATE)
        self.assertEqual(self.slot.done, ["life", "release"])
        self.assertNothingLeft()


class SettleTests(ConversationCase):
    """
    A park whose deadline has passed.
    """

    def test_deadlineCountsFromTheCallsArrival(self) -> None:
        """
        The model reads that the result comes later, and nothing is cancelled
        (X20).
        """
        self.conversation.tonesReceived([call("c1")])
        self.clock.advance(0.02)
        self.turn.done.clear()
        self.clock.advance(49.97)
        self.assertEqual(self.turn.done, [])
        self.clock.advance(0.02)
        self.assertEqual(self.turn.done, [("settle",), ("answer", "c1", "weather", LATE_RESULT, True)])
        self.assertIs(self.answer.calls[0].state, CallState.LATE)
        self.assertIs(self.conversation.phase, Phase.SETTLING)
        self.assertFalse(self.conversation.isParked)

    def test_settlingTurnIsNotHeard(self) -> None:
        """
        Its text reaches nobody, a further call is answered at once, and its
        good end makes the sid usable again.
        """
        self.park("c1")
        self.clock.advance(50)
        self.turn.done.clear()
        settled: list[bool] = []
        self.conversation.whenSettled().addCallback(settled.append)
        self.conversation.tonesReceived([text("Well."), call("c2")])
        self.assertEqual(self.turn.done, [("answer", "c2", "weather", LATE_RESULT, True)])
        self.assertEqual(settled, [])
        self.end()
        self.assertEqual(settled, [True])
        self.assertEqual(self.slot.done, ["life", "release"])
        self.assertNothingLeft()

    def test_settledTurnIsKnownAtOnce(self) -> None:
        """
        Asking after the end does not wait.
        """
        self.end(Error(sid=SID, message="no"))
        self.assertEqual(self.successResultOf(self.conversation.whenSettled()), False)

    def test_waitForTheEndCanBeGivenUp(self) -> None:
        """
        A cancelled wait is forgotten.
        """
        waiting = self.conversation.whenSettled()
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.end()
        self.assertTrue(self.conversation.isOver)

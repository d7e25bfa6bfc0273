"""
Tests for L{openai_server.web.exchange}: one answer between a conversation and
its clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openai_server.api.inquiry import Call
from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, ToolCalls
from openai_server.errors import APIError
from openai_server.translate.output import Translation
from openai_server.web import exchange as module
from openai_server.web.exchange import Exchange
from openai_server.wire.tones import Chunk, Error, Finish
from tests.support import SyncCase, TestClock

GOOD = Finish(sid="s", finishReason="success")


def text(said: str) -> Chunk:
    """
    A delta of text.
    """
    return Chunk(sid="s", chunkType="text_delta", delta=said)


class FakeConversation:
    """
    Counts how often it was cancelled.
    """

    cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class FakeSink:
    """
    Records what it is given.

    @ivar begins: bytes leave with the first event.
    """

    def __init__(self, begins: bool = True) -> None:
        self.given: list[Output] = []
        self.hasBegun = False
        self.holds = 0
        self._begins = begins

    def give(self, events: Sequence[Output]) -> None:
        self.given += events
        self.hasBegun = self._begins

    def holdPassed(self) -> None:
        self.holds += 1
        self.hasBegun = self._begins


class ExchangeCase(SyncCase):
    """
    An exchange with what is around it.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.ended = 0
        self.hold: float | None = 10
        self.exchange = self.newExchange()

    def newExchange(self, stop: Sequence[str] = (), model: str = "m") -> Exchange:
        """
        One for this model, whose translation cuts at these strings.
        """
        self.conversation = FakeConversation()
        conversation: Any = self.conversation
        return Exchange(
            self.clock,
            conversation,
            Translation(stop),
            model=model,
            modelIsKnown=lambda model: model == "known",
            headersHold=self.hold,
            callFrom=lambda call: Call("call_x", "f", "{}"),
            asked=None,
            onEnd=self._ended,
        )

    def _ended(self) -> None:
        self.ended += 1

    def attached(self, begins: bool = True) -> FakeSink:
        """
        A sink that was attached.
        """
        sink = FakeSink(begins)
        self.exchange.attach(sink)
        return sink


class AnswerTests(ExchangeCase):
    """
    What a conversation tells.
    """

    def test_textAndEndReachTheSink(self) -> None:
        """
        In order; the end is told once.
        """
        sink = self.attached()
        self.exchange.tonesReceived([text("a"), text("b")])
        self.exchange.turnEnded(GOOD)
        self.exchange.turnEnded(GOOD)
        self.assertEqual(sink.given, [Text(["a", "b"]), Finished("stop", None)])
        self.assertEqual((self.exchange.told.text, self.ended), ("ab", 1))

    def test_callsEndTheAnswer(self) -> None:
        """
        The calls as the client sees them, then the finish.
        """
        sink = self.attached()
        call: Any = object()
        self.exchange.calledTools([call])
        calls = (Call("call_x", "f", "{}"),)
        self.assertEqual(sink.given, [ToolCalls(calls), Finished("tool_calls", None)])
        self.assertEqual(self.exchange.told.calls, calls)

    def test_stopStringEndsTheAnswerAndCancelsTheTurn(self) -> None:
        """
        The text before it is delivered, nothing after it.
        """
        self.exchange = self.newExchange(["END"])
        sink = self.attached()
        self.exchange.tonesReceived([text("one E"), text("ND two")])
        self.exchange.tonesReceived([text("three")])
        self.assertEqual(sink.given, [Text(["one "]), Finished("stop", None)])
        self.assertEqual((self.exchange.told.text, self.conversation.cancelled), ("one ", 1))

    def test_noWorkerIsNotFoundForAnUnknownModel(self) -> None:
        """
        One that may come back is unavailable for now (U1).
        """
        sink = self.attached()
        self.exchange.turnEnded(Error(sid="s", message="no worker bee advertises model 'm'"))
        self.exchange = self.newExchange(model="known")
        known = self.attached()
        self.exchange.turnEnded(Error(sid="s", message="no worker bee advertises model 'known'"))
        names = [event.error.name for event in (*sink.given, *known.given) if isinstance(event, Failed)]
        self.assertEqual(names, ["model_not_found", "model_unavailable"])

    def test_failureIsPassedOn(self) -> None:
        """
        A turn that cannot go on.
        """
        sink = self.attached()
        self.exchange.failed(APIError("tool_route_lost", "lost"))
        [failed] = sink.given
        assert isinstance(failed, Failed)
        self.assertEqual(failed.error.name, "tool_route_lost")

    def test_headersAreHeldFromTheEcho(self) -> None:
        """
        Ten seconds; an answer that came sooner leaves no timer.
        """
        sink = self.attached()
        self.clock.advance(20)
        self.exchange.turnEchoed()
        self.exchange.turnEchoed()
        self.clock.advance(9.9)
        self.assertEqual(sink.holds, 0)
        self.clock.advance(0.1)
        self.assertEqual(sink.holds, 1)
        self.exchange = self.newExchange()
        self.attached()
        self.exchange.turnEchoed()
        self.exchange.turnEnded(GOOD)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answerThatIsSentWholeHoldsNothing(self) -> None:
        """
        Most of them are over in a moment: they are spared the timer.
        """
        self.hold = None
        self.exchange = self.newExchange()
        self.attached()
        self.exchange.turnEchoed()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wholeAnswerWithoutEndIsCut(self) -> None:
        """
        What is kept is bounded, reasoning included; the client is told.
        """
        self.patch(module, "WHOLE_LIMIT", 5)
        sink = self.attached(begins=False)
        self.exchange.tonesReceived([text("abc")])
        self.exchange.tonesReceived([Chunk(sid="s", chunkType="reasoning_delta", delta="def")])
        self.exchange.tonesReceived([text("more")])
        last = sink.given[-1]
        assert isinstance(last, Failed)
        self.assertEqual((last.error.name, len(sink.given)), ("worker_error", 2))
        self.assertEqual((self.conversation.cancelled, self.ended), (1, 1))

    def test_streamIsNotKept(self) -> None:
        """
        A long stream goes on; only the memory of sessions loses it.
        """
        self.patch(module, "WHOLE_LIMIT", 5)
        sink = self.attached()
        self.exchange.tonesReceived([text("abc")])
        self.exchange.tonesReceived([text("def")])
        self.exchange.turnEnded(GOOD)
        self.assertEqual(sink.given[-1], Finished("stop", None))
        self.assertIsNone(self.exchange.told.text)


class LeaveTests(ExchangeCase):
    """
    Clients that go, and come again.
    """

    def test_begunStreamIsCancelledAtOnce(self) -> None:
        """
        SDKs never retry those.
        """
        self.attached()
        self.exchange.tonesReceived([text("a")])
        self.assertFalse(self.exchange.clientLeft(2))
        self.assertEqual((self.conversation.cancelled, self.exchange.isAbandoned), (1, True))

    def test_graceLetsARetryHaveTheAnswerFromItsBeginning(self) -> None:
        """
        What came meanwhile too (K15).
        """
        self.attached(begins=False)
        self.exchange.tonesReceived([text("a")])
        self.assertTrue(self.exchange.clientLeft(2))
        self.exchange.tonesReceived([text("b")])
        again = self.attached(begins=False)
        self.clock.advance(10)
        self.exchange.turnEnded(GOOD)
        self.assertEqual(again.given, [Text(["a"]), Text(["b"]), Finished("stop", None)])
        self.assertEqual(self.conversation.cancelled, 0)

    def test_graceEndsWithACancel(self) -> None:
        """
        Nobody came.
        """
        self.attached(begins=False)
        self.exchange.clientLeft(2)
        self.clock.advance(1.9)
        self.assertEqual(self.conversation.cancelled, 0)
        self.clock.advance(0.1)
        self.assertEqual((self.conversation.cancelled, self.ended), (1, 1))
        self.assertTrue(self.exchange.isAbandoned)

    def test_answerThatEndsInTheGraceIsKeptForTheRetry(self) -> None:
        """
        Nobody has received it yet; no timer is left.
        """
        self.attached(begins=False)
        self.exchange.clientLeft(2)
        self.exchange.tonesReceived([Chunk(sid="s", chunkType="reasoning_delta", delta="hm"), text("a")])
        self.exchange.turnEnded(GOOD)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.exchange.isAttended)
        again = self.attached(begins=False)
        self.assertEqual(again.given, [Reasoning("hm"), Text(["a"]), Finished("stop", None)])

    def test_leavingTwiceOrAfterTheEndDoesNothing(self) -> None:
        """
        Both the stream and the request tell of a client that goes.
        """
        self.attached(begins=False)
        self.assertTrue(self.exchange.clientLeft(2))
        self.assertFalse(self.exchange.clientLeft(2))
        self.assertEqual(self.conversation.cancelled, 0)
        self.attached()
        self.exchange.turnEnded(GOOD)
        self.assertFalse(self.exchange.clientLeft(0))
        self.exchange.abandon()
        self.assertEqual((self.conversation.cancelled, self.ended), (0, 1))

    def test_holdThatPassedMeanwhileIsKnownToTheRetry(self) -> None:
        """
        It begins at once.
        """
        self.attached(begins=False)
        self.exchange.turnEchoed()
        self.exchange.clientLeft(100)
        self.clock.advance(10)
        self.assertEqual(self.attached().holds, 1)

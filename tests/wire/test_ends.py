"""
Tests for L{openai_server.wire.ends}.
"""

from __future__ import annotations

from openai_server.wire.ends import Loss, Lost, endingOf, endsWell
from openai_server.wire.tones import Error, Finish
from tests.support import SyncCase


class LostTests(SyncCase):
    """
    Ends without a word.
    """

    def test_values(self) -> None:
        """
        Losses are values: equal when reason and evidence are.
        """
        for loss in Loss:
            self.assertEqual(Lost(loss, True), Lost(loss, True))
            self.assertNotEqual(Lost(loss, True), Lost(loss, False))
        self.assertEqual(len({Lost(loss, False) for loss in Loss}), len(Loss))

    def test_reasonsAreWords(self) -> None:
        """
        Each reason has words of its own, for the log.
        """
        self.assertEqual(len({loss.value for loss in Loss}), len(list(Loss)))


class EndsWellTests(SyncCase):
    """
    After which ends a session may be prompted again.
    """

    def test_goodEnds(self) -> None:
        """
        A finish in the words of workers or of the specification, or without any.
        """
        for reason in (None, "success", "stop", "end_turn", "pause_turn", "tool_use", "length"):
            self.assertTrue(endsWell(Finish(sid="s", finishReason=reason)), reason)

    def test_otherEnds(self) -> None:
        """
        A process that ended, an error, a cut answer, words that nobody knows.
        """
        for end in (
            Finish(sid="s", finishReason="stop", exitCode=0),
            Finish(sid="s", finishReason="error_during_execution"),
            Finish(sid="s", finishReason="cancelled"),
            Finish(sid="s", finishReason=["success"]),
            Finish(sid="s", finishReason="who knows"),
            Finish(sid="s", finishReason="who knows", exitCode=1),
            Error(sid="s", message="no"),
            Lost(Loss.STALLED, True),
        ):
            self.assertFalse(endsWell(end), end)


class EndingTests(SyncCase):
    """
    L{endingOf}.
    """

    def test_table(self) -> None:
        """
        Every reason of the wire specification and of real workers.
        """
        for ending, reasons in (
            ("stop", ("success", "stop", "end_turn", "stop_sequence", "pause_turn", None)),
            ("stop", ("tool_use", "tool-calls", "tool_calls", "SUCCESS")),
            ("length", ("max_tokens", "length", "model_context_window_exceeded")),
            ("content_filter", ("refusal", "content_filter", "content-filter")),
            ("error", ("error", "error_max_turns", "error_during_execution", "cancelled")),
            ("error", ("weird", "", 7, {})),
        ):
            for reason in reasons:
                self.assertEqual(endingOf(reason), ending, reason)

    def test_goodEndsAreThoseThatAnswersHaveToo(self) -> None:
        """
        What the client is told is complete may be gone on with, in whatever
        spelling; unless nothing more would come of it.
        """
        for reason in ("done", "completed", "complete", "tool_calls", "end-turn", "Stop", "max-tokens"):
            self.assertTrue(endsWell(Finish(sid="s", finishReason=reason)), reason)
        for reason in ("refusal", "content_filter", "model_context_window_exceeded", "weird", 7):
            self.assertFalse(endsWell(Finish(sid="s", finishReason=reason)), reason)

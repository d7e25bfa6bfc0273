"""
Tests for L{openai_server.wire.ends}.
"""

from __future__ import annotations

from openai_server.wire.ends import Loss, Lost, endsWell
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

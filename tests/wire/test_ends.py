"""
Tests for L{openai_server.wire.ends}.
"""

from __future__ import annotations

from openai_server.wire.ends import Loss, Lost
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

"""
Tests for L{openai_server.api.ids}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from openai_server.api import ids


class IdTests(SynchronousTestCase):
    """
    Ids of answers.
    """

    def setUp(self) -> None:
        self.now = 0x6A0B1C2D + 0.5
        self.patch(ids.time, "time", lambda: self.now)

    def test_answers(self) -> None:
        """
        None comes twice over several draws, and the later ones sort behind.
        """
        newId = ids.newIds("chatcmpl-").__next__
        first = [newId() for _ in range(ids._IDS)]
        self.now += 1
        later = [newId() for _ in range(ids._IDS)]
        self.assertEqual(len({*first, *later}), 2 * ids._IDS)
        self.assertLess(max(first), min(later))
        for id in [*first, *later]:
            self.assertRegex(id, r"\Achatcmpl-6a0b1c2[de][A-Za-z0-9_-]{16}\Z")

    def test_tokens(self) -> None:
        """
        They are hexadecimal, are all different, and the later ones sort behind.
        """
        first = [ids.newToken() for _ in range(100)]
        self.now += 1
        later = [ids.newToken() for _ in range(100)]
        self.assertEqual(len({each[8:] for each in first + later}), 200)
        self.assertLess(max(first), min(later))
        for token in first + later:
            self.assertRegex(token, r"\A6a0b1c2[de][0-9a-f]{24}\Z")

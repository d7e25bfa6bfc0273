"""
Tests for L{openai_server.wire.ids}.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.wire.ids import RequestIds, base36, newSessionId, sigil
from tests.support import SyncCase


class Base36Tests(SyncCase):
    """
    Numbers in base 36.
    """

    @settings(deadline=None)
    @given(st.integers(min_value=0))
    def test_roundTrip(self, number: int) -> None:
        """
        Python reads back what was written, and nothing shorter would do.
        """
        digits = base36(number)
        self.assertEqual(int(digits, 36), number)
        self.assertEqual(digits, digits.lower())
        self.assertTrue(digits == "0" or digits[0] != "0")

    def test_vectors(self) -> None:
        """
        Around the digits' end.
        """
        self.assertEqual(
            [base36(number) for number in (0, 9, 10, 35, 36, 1295)], ["0", "9", "a", "z", "10", "zz"]
        )


class RequestIdTests(SyncCase):
    """
    Ids of requests.
    """

    def test_convention(self) -> None:
        """
        Milliseconds, a dash, and a counter that goes on while time stands still.
        """
        rids = RequestIds(lambda: 1_700_000_000.123)
        self.assertEqual(
            [rids.next() for _ in range(2)], [f"{base36(1_700_000_000_123)}-{n}" for n in (0, 1)]
        )


class SessionIdTests(SyncCase):
    """
    Ids of sessions.
    """

    def test_charset(self) -> None:
        """
        (X7) What is safe in a path of the worker's, at most 64, and never the
        same; those of one moment begin alike.
        """
        sids = {newSessionId() for _ in range(1000)}
        self.assertEqual(len(sids), 1000)
        self.assertLess(len({sid[:11] for sid in sids}), 20)
        for sid in sids:
            self.assertRegex(sid, re.compile(r"\A[A-Za-z0-9_-]{20,64}\Z"))


class SigilTests(SyncCase):
    """
    The daemon's short names.
    """

    def test_vector(self) -> None:
        """
        The first 12 hex digits of SHA-256 over nest, colon, sid.
        """
        # printf 'nest:s1' | sha256sum
        self.assertEqual(sigil("s1", "nest"), "483ea100fd4b")

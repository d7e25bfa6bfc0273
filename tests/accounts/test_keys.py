"""
Tests for L{openai_server.accounts.keys}.
"""

from __future__ import annotations

from hashlib import sha256

from openai_server.accounts.keys import digestOf, isAccountName, isName, newKey, shownOf
from tests.support import SyncCase


class KeyTests(SyncCase):
    """
    What a key is made of, and called.
    """

    def test_newKey(self) -> None:
        """
        32 random bytes behind the prefix, another one each time.
        """
        keys = {newKey() for _ in range(50)}
        self.assertEqual(len(keys), 50)
        for key in keys:
            self.assertRegex(key, r"\Ask-hum-[A-Za-z0-9_-]{43}\Z")
            self.assertEqual(shownOf(key), key[:11])
            self.assertEqual(digestOf(key.encode()), sha256(key.encode()).digest())

    def test_names(self) -> None:
        """
        Short, on one line, without a space or what means something elsewhere.
        """
        for name in ("alice", "Team-1.a_b@example+x", "x" * 64, "default", "0123456789abcdef"):
            self.assertTrue(isName(name), name)
        for name in ("", "-a", "a b", "a/b", "a,b", "a\n", "x" * 65, "\u00e9"):
            self.assertFalse(isName(name), name)

    def test_accountNames(self) -> None:
        """
        Not one that the key of the settings has, or may have.
        """
        for name, isOne in (
            *(("alice", True), ("anonymous", True), ("0123456789abcde", True), ("default", False)),
            *(("0123456789abcdef", False), ("a b", False)),
        ):
            self.assertEqual(isAccountName(name), isOne, name)

"""
Tests for L{openai_server.web.sealing}.
"""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from openai_server.web.sealing import PREFIX, SealingKey
from tests.support import SyncCase

KEY = SealingKey(b"k" * 32)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
ACCOUNTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
#: What tokens are made of, and a few characters that decoders overlook.
CHARACTERS = string.ascii_letters + string.digits + "-_=+/. \n\0é"


class SealingTests(SyncCase):
    """
    What can be opened, and what cannot.
    """

    @given(TEXTS, ACCOUNTS)
    def test_roundTrip(self, text: str, account: str) -> None:
        """
        The account's own, whatever it says; the same secret opens it later.
        """
        token = KEY.sealOf(account).seal(text)
        self.assertEqual(SealingKey(b"k" * 32).sealOf(account).open(token), text)
        self.assertRegex(token, r"\Ahum1\.[A-Za-z0-9_=-]+\Z")
        self.assertNotEqual(KEY.sealOf(account).seal(text), token)

    @given(TEXTS, ACCOUNTS, ACCOUNTS)
    def test_otherAccounts(self, text: str, account: str, other: str) -> None:
        """
        Another account's, and another server's, are none.
        """
        token = KEY.sealOf(account).seal(text)
        for key, whose in ((KEY, other + account), (KEY, ""), (SealingKey(), account)):
            self.assertIsNone(key.sealOf(whose).open(token))

    @given(TEXTS, st.data())
    def test_changed(self, text: str, data: st.DataObject) -> None:
        """
        Nothing can be changed in a token, cut from it or added to it.
        """
        seal = KEY.sealOf("a")
        token = seal.seal(text)
        start = data.draw(st.integers(0, len(token)))
        end = data.draw(st.integers(start, min(start + 3, len(token))))
        changed = token[:start] + data.draw(st.text(CHARACTERS, max_size=3)) + token[end:]
        if changed != token:
            self.assertIsNone(seal.open(changed))

    @given(st.text(CHARACTERS, max_size=80))
    def test_forged(self, text: str) -> None:
        """
        What was never sealed is no token.
        """
        for token in (text, PREFIX + text, "gAAAAA" + text):
            self.assertIsNone(KEY.sealOf("a").open(token))

    def test_unusedBits(self) -> None:
        """
        A last character that decodes to the same bytes is another token.
        """
        token = KEY.sealOf("a").seal("x" * 3)
        alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
        body = token.rstrip("=")
        self.assertLess(len(body), len(token))
        other = body[:-1] + alphabet[alphabet.index(body[-1]) ^ 1] + token[len(body) :]
        self.assertIsNone(KEY.sealOf("a").open(other))
        self.assertEqual(KEY.sealOf("a").open(token), "xxx")

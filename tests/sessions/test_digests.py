"""
Digests of lists.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.sessions.digests import digestOf
from tests.support import SyncCase

values = st.lists(
    st.one_of(
        st.text("ab:1t\ud800", max_size=4),
        st.binary(max_size=3),
        st.just("\ud800".encode("utf-8", "surrogatepass")),
    ),
    max_size=4,
)


class DigestTests(SyncCase):
    @settings(deadline=None, max_examples=200)
    @given(values, values)
    def test_differentListsDiffer(self, one: list[str | bytes], other: list[str | bytes]) -> None:
        """
        Equal digests mean equal lists: nothing runs together.
        """
        self.assertEqual(digestOf(one) == digestOf(other), one == other)

    def test_keyMatters(self) -> None:
        """
        Without the key the digest cannot be found.
        """
        self.assertNotEqual(digestOf(["a"], b"one"), digestOf(["a"], b"two"))

    def test_loneSurrogate(self) -> None:
        """
        Text that is no valid Unicode has a digest too.
        """
        self.assertNotEqual(digestOf(["\ud800"]), digestOf(["\ud801"]))

    def test_loneSurrogateIsNotItsBytes(self) -> None:
        """
        Neither are the texts beside it.
        """
        self.assertNotEqual(digestOf(["\ud800", "a"]), digestOf([b"\xed\xa0\x80", b"a"]))

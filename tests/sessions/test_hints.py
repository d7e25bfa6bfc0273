"""
Hints and their keys.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.sessions.hints import NO_HINTS, HintKeys, Hints, SessionKeys, SessionName, hintsFrom
from tests.support import SyncCase

#: What clients put into hints to get somewhere else (X8).
NASTY = ("/", "..", "../../x", "\r\nX: y", "\0", ":", "a\x1fb", "\ud800", "x" * 2**20, "é")


class HintsFromTests(SyncCase):
    def test_whatCounts(self) -> None:
        """
        The session's name and the user, each for itself.
        """
        name = SessionName("header", "h")
        self.assertEqual(hintsFrom("h", "u"), Hints(name, "u"))
        self.assertEqual(hintsFrom("h", None), Hints(name))
        self.assertEqual(hintsFrom(None, "u"), Hints(user="u"))

    def test_nothingSaid(self) -> None:
        """
        Absent, empty and blank values are no hints.
        """
        for header, user in ((None, None), ("", ""), (" ", "\t")):
            self.assertIs(hintsFrom(header, user), NO_HINTS)


class SessionKeysTests(SyncCase):
    def test_equalOnlyForEqual(self) -> None:
        """
        Another account, kind or value, another key; also when the joined text
        is the same.
        """
        keys = SessionKeys(b"secret")
        cases = [
            ("a", "user", "b"),
            ("a", "use", "rb"),
            ("au", "ser", "b"),
            ("a", "userb", ""),
            ("b", "user", "b"),
        ]
        self.assertEqual(len({keys.key(*case) for case in cases}), len(cases))
        self.assertEqual(keys.key("a", "user", "b"), SessionKeys(b"secret").key("a", "user", "b"))

    def test_keysOfHints(self) -> None:
        """
        Each hint has its own; the same value as a name, as another kind of
        name and as a user has three.
        """
        keys = SessionKeys(b"secret")
        self.assertEqual(keys.keysOf("a", NO_HINTS), HintKeys())
        both = keys.keysOf("a", hintsFrom("x", "x"))
        self.assertEqual(both, HintKeys(keys.key("a", "header", "x"), keys.key("a", "user", "x")))
        other = keys.keysOf("a", Hints(SessionName("conversation", "x")))
        self.assertEqual(len({both.session, both.user, other.session}), 3)
        self.assertIsNone(other.user)

    def test_nastyValues(self) -> None:
        """
        Whatever a client puts into a hint, its key is 16 bytes without it.
        """
        keys = SessionKeys()
        made = [keys.key("a", "user", value) for value in NASTY]
        self.assertEqual({len(key) for key in made}, {16})
        self.assertEqual(len(set(made)), len(NASTY))

    def test_keyedWithTheSecret(self) -> None:
        """
        Two servers, and a server without a given secret, make other keys.
        """
        made = {SessionKeys(secret).key("a", "user", "u") for secret in (b"1", b"2", None)}
        self.assertEqual(len(made), 3)

    @settings(deadline=None, max_examples=100)
    @given(st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3)))
    def test_shiftedBorders(self, parts: tuple[str, str, str]) -> None:
        """
        Moving a character from one part to the next makes another key.
        """
        account, kind, value = parts
        keys = SessionKeys(b"s")
        self.assertNotEqual(keys.key(account + "x", kind, value), keys.key(account, "x" + kind, value))
        self.assertNotEqual(keys.key(account, kind + "x", value), keys.key(account, kind, "x" + value))

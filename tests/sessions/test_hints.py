"""
Hints and their keys.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.sessions.hints import HEADERS, Hint, SessionKeys, Weight, hintsFrom
from tests.support import SyncCase

#: What clients put into hints to get somewhere else (X8).
NASTY = ("/", "..", "../../x", "\r\nX: y", "\0", ":", "a\x1fb", "\ud800", "x" * 2**20, "é")


class HintsFromTests(SyncCase):
    def test_strongestFirst(self) -> None:
        """
        Headers in their order, metadata, the body, the cache's key, the user.
        """
        found = hintsFrom(
            {name: name.upper() for name in reversed(HEADERS)},
            metadata={"session_id": "m", "chat_id": "n", "other": "o"},
            sessionId="s",
            chatId="c",
            promptCacheKey="p",
            user="u",
        )
        self.assertEqual(
            [hint.kind for hint in found],
            [f"header.{name}" for name in HEADERS]
            + ["metadata.session_id", "metadata.chat_id", "body.session_id", "body.chat_id"]
            + ["prompt_cache_key", "user"],
        )
        self.assertEqual([hint.weight for hint in found[-3:]], [Weight.SESSION, Weight.CACHE, Weight.USER])
        self.assertEqual(found[0], Hint("header.x-hum-session", "X-HUM-SESSION", Weight.SESSION))

    def test_nothingSaid(self) -> None:
        """
        Absent, empty and blank values are no hints.
        """
        self.assertEqual(
            hintsFrom({"x-session-id": " ", "host": "h"}, metadata={"session_id": ""}, user=""), ()
        )

    def test_onlyTheCacheYieldsToTheUser(self) -> None:
        """
        A cache's key says nothing of a person; the others do.
        """
        session, cache, user = (Hint("k", "v", weight) for weight in Weight)
        self.assertTrue(cache.yieldsTo(user))
        self.assertFalse(cache.yieldsTo(session) or session.yieldsTo(user) or user.yieldsTo(cache))


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

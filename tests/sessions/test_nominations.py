"""
Where sessions are found.
"""

from __future__ import annotations

from openai_server.sessions.chains import Chain, Transcript
from openai_server.sessions.contexts import contextFrom
from openai_server.sessions.entries import Entry
from openai_server.sessions.hints import Hint, Weight
from openai_server.sessions.nominations import (
    MAX_NOMINATED,
    Idle,
    Known,
    Nominations,
    isContradicted,
    scopesOf,
)
from openai_server.sessions.plans import Session
from tests.support import SyncCase

CONTEXT = contextFrom("m", "", None)
SEEN = Chain().digest


def hint(kind: str, value: str, weight: Weight = Weight.SESSION) -> tuple[Hint, bytes]:
    """
    A hint with its key.
    """
    return Hint(kind, value, weight), f"{kind} {value}".encode()


def session() -> Session:
    """
    A session of account a.
    """
    return Session("a", CONTEXT)


class NominationsTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.known = Nominations(3)

    def test_latestFirst(self) -> None:
        """
        The session that was used last is the first to be looked at.
        """
        one, other = session(), session()
        by = hint("k", "v")
        for used in (one, other, one):
            self.known.nominate(used, [by])
        self.assertEqual(self.known.of(by[1]), [one, other])
        self.assertEqual(self.known.of(b"another"), ())

    def test_newHintOfAKindReplacesTheOld(self) -> None:
        """
        A session goes by one hint of each kind.
        """
        used = session()
        self.known.nominate(used, [hint("k", "1"), hint("l", "1")])
        self.known.nominate(used, [hint("k", "2")])
        self.assertEqual([len(self.known.of(key)) for key in (b"k 1", b"k 2", b"l 1")], [0, 1, 1])

    def test_withdrawn(self) -> None:
        """
        A withdrawn session is named by nothing, and leaves nothing behind.
        """
        used = session()
        self.known.nominate(used, [hint("k", "1"), hint("l", "1")])
        self.known.withdraw(used)
        self.assertEqual(len(self.known), 0)

    def test_historyOutlivesItsSessions(self) -> None:
        """
        That history was shown stays known without any session.
        """
        used = session()
        self.known.nominate(used, [hint("k", "1")])
        self.assertFalse(self.known.showsHistory(b"k 1") or self.known.showsHistory(b"k 2"))
        self.known.historyShown(b"k 1")
        self.known.withdraw(used)
        self.assertTrue(self.known.showsHistory(b"k 1"))

    def test_bounded(self) -> None:
        """
        P20: so many hints, so many sessions for each; the oldest go, and one
        that is gone can be withdrawn.
        """
        used = [session() for _ in range(MAX_NOMINATED + 1)]
        for each in used:
            self.known.nominate(each, [hint("k", "1")])
        self.assertEqual(self.known.of(b"k 1"), used[:0:-1])
        for value in "234":
            self.known.nominate(session(), [hint("k", value)])
        self.assertEqual((len(self.known), self.known.of(b"k 1")), (3, ()))
        self.known.withdraw(used[1])
        self.assertEqual(len(self.known), 3)


class IdleTests(SyncCase):
    def test_foundByWhatItHasSeen(self) -> None:
        """
        An idle session is found under its account and hints, where it stands.
        """
        idle, used = Idle(5), session()
        used.hints["k"] = b"key"
        self.assertIsNone(idle.add(used))
        self.assertIn(used, idle)
        for scope in ("a", b"key"):
            self.assertEqual(idle.under(scope, CONTEXT), {SEEN: [used]})
        self.assertEqual(idle.under("b", CONTEXT), {})
        self.assertEqual(idle.under("a", contextFrom("n", "", None)), {})

    def test_removedIsNotFound(self) -> None:
        """
        A session that was taken out is found nowhere, even when its hints
        or what it has seen changed meanwhile; others at the same place stay.
        """
        idle, used, other = Idle(5), session(), session()
        idle.add(used)
        idle.add(other)
        elsewhere = session()
        elsewhere.told([Entry("user", "hi")])
        idle.add(elsewhere)
        found = {SEEN: [used, other], elsewhere.seen.digest: [elsewhere]}
        self.assertEqual(idle.under("a", CONTEXT), found)
        used.hints["k"] = b"key"
        used.told([Entry("user", "hi")])
        idle.remove(elsewhere)
        idle.remove(used)
        self.assertEqual(idle.under("a", CONTEXT), {SEEN: [other]})
        idle.remove(other)
        self.assertEqual((len(idle), idle._at), (0, {}))

    def test_bounded(self) -> None:
        """
        P20: the one that was used longest ago makes place.
        """
        idle = Idle(2)
        used = [session() for _ in range(3)]
        self.assertEqual([idle.add(each) for each in used], [None, None, used[0]])
        self.assertEqual((len(idle), idle.under("a", CONTEXT)), (2, {SEEN: used[1:]}))


class KnownTests(SyncCase):
    """
    Transcripts that were answered.
    """

    def transcript(self, *texts: str) -> Transcript:
        """
        What an account shows that was given these answers.
        """
        said = [entry for text in texts for entry in (Entry("user", "?"), Entry("assistant", text))]
        return Transcript([*said, Entry("user", "more")])

    def test_shownAgain(self) -> None:
        """
        Whoever was answered shows the answer, somewhere.
        """
        known = Known(9)
        first = self.transcript("one")
        known.add("a", first.answered[2])
        self.assertTrue(known.has("a", first))
        self.assertTrue(known.has("a", self.transcript("one", "two")))
        self.assertFalse(known.has("a", self.transcript("two", "one")))
        self.assertFalse(known.has("b", first))

    def test_bounded(self) -> None:
        """
        P20: the oldest are forgotten, and nothing is left of them; the same
        one twice counts once.
        """
        known = Known(2)
        transcripts = {account: self.transcript(account) for account in "abc"}
        for account in "aabc":
            known.add(account, transcripts[account].answered[2])
        self.assertEqual([known.has(account, transcripts[account]) for account in "abc"], [False, True, True])
        self.assertEqual((len(known._digests), dict(known._perAccount)), (2, {"b": 1, "c": 1}))


class ContradictionTests(SyncCase):
    def test_strongerHintsCount(self) -> None:
        """
        A session that a weaker hint names is left alone when a stronger one
        names another; the other way round the weaker one does not count, but
        for the user behind a cache's key.
        """
        mine = [hint("s", "1"), hint("c", "1", Weight.CACHE), hint("u", "1", Weight.USER)]
        used = session()
        Nominations(9).nominate(used, mine)
        otherSession = [hint("s", "2"), *mine[1:]]
        otherUser = [*mine[:2], hint("u", "2", Weight.USER)]
        otherCache = [mine[0], hint("c", "2", Weight.CACHE), mine[2]]
        table = [
            (mine, [False, False, False]),
            (otherSession, [False, True, True]),
            (otherUser, [False, True, False]),
            (otherCache, [False, False, True]),
        ]
        for hints, expected in table:
            self.assertEqual([isContradicted(used, hints, by) for by in range(3)], expected)

    def test_silenceIsNoContradiction(self) -> None:
        """
        A kind of hint that the session never had, and a request without any,
        contradict nothing.
        """
        self.assertFalse(isContradicted(session(), [hint("s", "1"), hint("u", "1")], 1))
        self.assertFalse(isContradicted(session(), [], 0))

    def test_whereToLook(self) -> None:
        """
        Under the account without hints; else under those that name any
        session.
        """
        known = Nominations(9)
        self.assertEqual(list(scopesOf("a", [], known)), [("a", 0)])
        known.nominate(session(), [hint("u", "1")])
        self.assertEqual(list(scopesOf("a", [hint("s", "1"), hint("u", "1")], known)), [(b"u 1", 1)])

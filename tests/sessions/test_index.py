"""
Where sessions are found.
"""

from __future__ import annotations

from openai_server.sessions.chains import Chain, Transcript
from openai_server.sessions.contexts import contextFrom
from openai_server.sessions.entries import Entry
from openai_server.sessions.hints import HintKeys
from openai_server.sessions.index import MAX_NAMED, AnsweredTranscripts, IdleSessions, NamedSessions
from openai_server.sessions.plans import Session
from tests.support import SyncCase

CONTEXT = contextFrom("m", "", None)
SEEN = Chain().digest


def session() -> Session:
    """
    A session of account a.
    """
    return Session("a", CONTEXT, Chain())


class NamedSessionsTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.named = NamedSessions(3)

    def test_latestFirst(self) -> None:
        """
        The session that was used last is the first to be looked at.
        """
        one, other = session(), session()
        for used in (one, other, one):
            self.named.use(used, HintKeys(user=b"u"))
        self.assertEqual(self.named.of(b"u"), [one, other])
        self.assertEqual(self.named.of(b"another"), ())

    def test_newHintOfAKindReplacesTheOld(self) -> None:
        """
        A session goes by one name and one user; what a request does not say
        stays.
        """
        used = session()
        self.named.use(used, HintKeys(b"n1", b"u1"))
        self.named.use(used, HintKeys(session=b"n2"))
        self.named.use(used, HintKeys())
        self.assertEqual([len(self.named.of(key)) for key in (b"n1", b"n2", b"u1")], [0, 1, 1])
        self.assertEqual((used.name, used.user), (b"n2", b"u1"))

    def test_withdrawn(self) -> None:
        """
        A withdrawn session is named by nothing, and leaves nothing behind.
        """
        used = session()
        self.named.use(used, HintKeys(b"n", b"u"))
        self.named.withdraw(used)
        self.assertEqual(len(self.named), 0)

    def test_historyOutlivesItsSessions(self) -> None:
        """
        That history was shown stays known without any session.
        """
        used = session()
        self.named.use(used, HintKeys(user=b"u"))
        self.assertFalse(self.named.showsHistory(b"u") or self.named.showsHistory(b"v"))
        self.named.historyShown(b"u")
        self.named.withdraw(used)
        self.assertTrue(self.named.showsHistory(b"u"))

    def test_bounded(self) -> None:
        """
        P20: so many hints, so many sessions for each; the oldest go, and one
        that is gone can be withdrawn.
        """
        used = [session() for _ in range(MAX_NAMED + 1)]
        for each in used:
            self.named.use(each, HintKeys(b"1"))
        self.assertEqual(self.named.of(b"1"), used[:0:-1])
        self.named.withdraw(used[0])
        self.assertEqual(self.named.of(b"1"), used[:0:-1])
        for key in (b"2", b"3", b"4"):
            self.named.use(session(), HintKeys(key))
        self.assertEqual((len(self.named), self.named.of(b"1")), (3, ()))
        self.named.withdraw(used[1])
        self.assertEqual(len(self.named), 3)


class IdleSessionsTests(SyncCase):
    def test_foundByWhatItHasSeen(self) -> None:
        """
        An idle session is found under its account and hints, where it stands.
        """
        idle, used = IdleSessions(5), session()
        used.name, used.user = b"name", b"user"
        self.assertIsNone(idle.add(used))
        self.assertIn(used, idle)
        for scope in ("a", b"name", b"user"):
            self.assertEqual(idle.under(scope, CONTEXT), {SEEN: [used]})
        self.assertEqual(idle.under("b", CONTEXT), {})
        self.assertEqual(idle.under("a", contextFrom("n", "", None)), {})

    def test_removedIsNotFound(self) -> None:
        """
        A session that was taken out is found nowhere, even when its hints
        or what it has seen changed meanwhile; others at the same place stay.
        """
        idle, used, other = IdleSessions(5), session(), session()
        idle.add(used)
        idle.add(other)
        elsewhere = session()
        elsewhere.told([Entry("user", "hi")])
        idle.add(elsewhere)
        found = {SEEN: [used, other], elsewhere.seen.digest: [elsewhere]}
        self.assertEqual(idle.under("a", CONTEXT), found)
        used.name, used.user = b"name", b"user"
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
        idle = IdleSessions(2)
        used = [session() for _ in range(3)]
        self.assertEqual([idle.add(each) for each in used], [None, None, used[0]])
        self.assertEqual((len(idle), idle.under("a", CONTEXT)), (2, {SEEN: used[1:]}))


class AnsweredTranscriptsTests(SyncCase):
    """
    Transcripts that were answered.
    """

    def transcript(self, *texts: str) -> Transcript:
        """
        What an account shows that was given these answers.
        """
        said = [entry for text in texts for entry in (Entry("user", "?"), Entry("assistant", text))]
        return Transcript([*said, Entry("user", "more")])

    def answered(self, account: str, transcript: Transcript, at: int = 2) -> Session:
        """
        A session that gave the answer before this index.
        """
        made = Session(account, CONTEXT, Chain(transcript.entries[:at]))
        self.assertEqual(made.seen.digest, transcript.answered[at])
        return made

    def test_shownAgain(self) -> None:
        """
        Whoever was answered shows the answer, somewhere.
        """
        known = AnsweredTranscripts(9)
        first, longer = self.transcript("one"), self.transcript("one", "two")
        made = self.answered("a", first)
        known.add(made)
        self.assertEqual(known.of("a", first), (made, 2))
        self.assertEqual(known.of("a", longer), (made, 2))
        self.assertIsNone(known.of("a", self.transcript("two", "one")))
        self.assertIsNone(known.of("b", first))
        last = self.answered("a", longer, 4)
        known.add(last)
        self.assertEqual((known.of("a", longer), known.of("a", first)), ((last, 4), (made, 2)))

    def test_bounded(self) -> None:
        """
        P20: the oldest are forgotten, and nothing is left of them; the same
        one twice counts once, for the session that was answered last.
        """
        known = AnsweredTranscripts(2)
        transcripts = {account: self.transcript(account) for account in "abc"}
        made = [self.answered(account, transcripts[account]) for account in "aabc"]
        for each in made[:2]:
            known.add(each)
        self.assertEqual(known.of("a", transcripts["a"]), (made[1], 2))
        for each in made[2:]:
            known.add(each)
        found = [known.of(account, transcripts[account]) for account in "abc"]
        self.assertEqual(found, [None, (made[2], 2), (made[3], 2)])
        self.assertEqual((len(known._sessions), dict(known._perAccount)), (2, {"b": 1, "c": 1}))

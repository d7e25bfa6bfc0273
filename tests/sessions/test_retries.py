"""
Requests that are asked again.
"""

from __future__ import annotations

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.errors import APIError
from openai_server.sessions import retries as retriesModule
from openai_server.sessions.hints import hintsFrom
from openai_server.sessions.retries import Attempt, Retries, fingerprint
from tests.support import SyncCase, TestClock


class FingerprintTests(SyncCase):
    def test_whatCounts(self) -> None:
        """
        Another body or another session is another request.
        """
        made = [
            fingerprint(b"{}", ()),
            fingerprint(b"{ }", ()),
            fingerprint(b"{}", hintsFrom({"x-session-id": "a"})),
            fingerprint(b"{}", hintsFrom({"x-session-id": "b"})),
            fingerprint(b"{}", hintsFrom({"session-id": "a"})),
        ]
        self.assertEqual(len(set(made)), len(made))
        self.assertEqual(fingerprint(b"{}", hintsFrom({"x-session-id": "a"})), made[2])


class RetriesTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.retries: Retries[str, str] = Retries(self.clock, bytesLimit=100)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.retries.stop)

    def begin(self, name: str = "turn", account: str = "a", key: str | None = None) -> Attempt[str, str]:
        """
        Begin an attempt for one body.
        """
        return self.retries.begin(account, b"body", key, name)

    def lost(self, name: str = "turn", account: str = "a", key: str | None = None) -> Attempt[str, str]:
        """
        Begin one whose client goes away.
        """
        attempt = self.begin(name, account, key)
        self.retries.clientGone(attempt)
        return attempt

    def find(
        self, count: int = 1, account: str = "a", body: bytes = b"body", key: str | None = None
    ) -> Attempt[str, str] | None:
        """
        Ask whether there is something for a retry.
        """
        return self.retries.find(account, body, count, key)

    def test_joinsTheRunningTurn(self) -> None:
        """
        K15: a retry joins the running turn whose client is gone, and nobody
        else can then.
        """
        attempt = self.lost()
        self.assertIs(self.find(), attempt)
        self.assertTrue(attempt.isAttended)
        self.assertEqual((attempt.running, attempt.answer), ("turn", None))
        self.assertIsNone(self.find())

    def test_firstClientIsStillThere(self) -> None:
        """
        K15: a turn that somebody attends is joined by nobody.
        """
        self.begin()
        self.assertIsNone(self.find())

    def test_noRetry(self) -> None:
        """
        K15: equal requests that are no retries each run.
        """
        self.lost()
        self.assertIsNone(self.find(count=0))

    def test_anotherRequest(self) -> None:
        """
        K15: another account or body joins nothing.
        """
        self.lost()
        self.assertIsNone(self.find(account="b"))
        self.assertIsNone(self.find(body=b"other"))
        self.assertIsNone(self.find(key="k"))

    def test_oldestRunningFirst(self) -> None:
        """
        K15: of several the oldest running turn, then finished answers.
        """
        finished, first, second = (self.begin(name) for name in ("finished", "first", "second"))
        for attempt in (second, finished, first):
            self.retries.clientGone(attempt)
        self.retries.finished(finished, "answer", 6)
        self.assertEqual(
            [self.find(), self.find(), self.find(), self.find()], [first, second, finished, None]
        )

    def test_finishedAnswerOnce(self) -> None:
        """
        K15: an answer that nobody received is there for the retry, once.
        """
        attempt = self.lost()
        self.retries.finished(attempt, "answer", 6)
        self.assertEqual(self.retries.bytesKept, 6)
        found = self.find()
        self.assertIs(found, attempt)
        self.assertEqual(attempt.answer, "answer")
        self.assertEqual(self.retries.bytesKept, 0)
        self.retries.delivered(attempt)
        self.assertEqual((self.find(), attempt.answer), (None, None))

    def test_clientGoneAfterTheEnd(self) -> None:
        """
        K15: a client that goes before it has all of a finished answer.
        """
        attempt = self.begin()
        self.retries.finished(attempt, "answer", 6)
        self.assertEqual(self.retries.bytesKept, 0)
        self.retries.clientGone(attempt)
        self.retries.clientGone(attempt)
        self.assertEqual(self.retries.bytesKept, 6)
        self.assertIs(self.find(), attempt)

    def test_goneAgain(self) -> None:
        """
        K15: what the retry did not receive either is there for the next one.
        """
        attempt = self.lost()
        self.find()
        self.retries.clientGone(attempt)
        self.assertIs(self.find(count=2), attempt)

    def test_deliveredOrGivenUp(self) -> None:
        """
        What was delivered, or given up with its client gone, is not found;
        a client that goes afterwards changes nothing.
        """
        attempt = self.begin()
        self.retries.delivered(attempt)
        self.retries.clientGone(attempt)
        self.retries.delivered(self.lost())
        self.assertIsNone(self.find())

    def test_forgottenAfterTheWindow(self) -> None:
        """
        After 300 s without a client an attempt is gone, its bytes too.
        """
        first = self.lost()
        self.retries.finished(first, "answer", 6)
        self.clock.advance(100)
        second = self.lost("second")
        self.clock.advance(199.9)
        self.assertEqual(self.retries.bytesKept, 6)
        self.clock.advance(0.1)
        self.assertEqual(self.retries.bytesKept, 0)
        self.assertIs(self.find(), second)
        self.assertIsNone(self.find())

    def test_bytesAreBounded(self) -> None:
        """
        The oldest answers make place; running turns stay.
        """
        running = self.lost("running")
        answers = [self.lost(name) for name in ("one", "two", "three")]
        for attempt in answers:
            self.retries.finished(attempt, "answer", 40)
        self.assertEqual(self.retries.bytesKept, 80)
        self.assertEqual([self.find(), self.find(), self.find(), self.find()], [running, *answers[1:], None])

    def test_hugeAnswerIsNotKept(self) -> None:
        """
        An answer beyond the limit does not drive out the others.
        """
        small, huge = self.lost("small"), self.lost("huge")
        self.retries.finished(small, "answer", 40)
        self.retries.finished(huge, "answer", 101)
        self.assertEqual([self.find(), self.find()], [small, None])

    def test_countIsBounded(self) -> None:
        """
        The attempt that was lost first makes place, and so does the oldest
        idempotency key.
        """
        with mock.patch.object(retriesModule, "MAX_ATTEMPTS", 2):
            lost = [self.lost(name, key=name) for name in ("one", "two", "three")]
        self.assertEqual([self.find(key=name) for name in ("one", "two", "three")], [None, *lost[1:]])
        self.assertIsNone(self.find(body=b"other", key="one"))

    def test_idempotencyKey(self) -> None:
        """
        With the same key a request joins its turn without any retry count; it
        takes no other key's and no keyless one's.
        """
        self.lost("keyless")
        attempt = self.lost(key="k")
        self.assertIsNone(self.find(count=0, key="l"))
        self.assertIs(self.find(count=0, key="k"), attempt)
        self.assertIsNone(self.find(count=0, key="k"))

    def test_idempotencyKeyOfAnotherRequest(self) -> None:
        """
        The same key with another body is a 409 that is not to be retried, for
        300 s and for this account.
        """
        self.begin(key="k")
        with self.assertRaises(APIError) as caught:
            self.find(body=b"other", key="k")
        self.assertEqual((caught.exception.kind.status, caught.exception.mayRetry), (409, False))
        self.assertEqual(caught.exception.kind.code, "idempotency_key_reuse")
        self.assertIsNone(self.find(account="b", body=b"other", key="k"))
        self.clock.advance(300)
        self.assertIsNone(self.find(body=b"other", key="k"))

    def test_stop(self) -> None:
        """
        At the end everything is forgotten, and nothing ticks.
        """
        self.lost(key="k")
        self.retries.stop()
        self.assertIsNone(self.find(key="k"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @settings(deadline=None, max_examples=100)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["begin", "gone", "finish", "deliver", "find", "wait"]),
                st.integers(0, 3),
                st.sampled_from(["a", "b"]),
            ),
            max_size=40,
        )
    )
    def test_nothingIsServedTwice(self, steps: list[tuple[str, int, str]]) -> None:
        """
        Whatever happens, an attempt has one client at a time, its own
        account's, and the bytes add up.
        """
        clock = TestClock()
        retries: Retries[str, str] = Retries(clock, bytesLimit=100)
        begun: list[Attempt[str, str]] = []
        attended: set[Attempt[str, str]] = set()
        for what, which, account in steps:
            attempt = begun[which % len(begun)] if begun else None
            if what == "begin" or attempt is None:
                begun.append(retries.begin(account, b"body", None, account))
                attended.add(begun[-1])
            elif what == "gone":
                retries.clientGone(attempt)
                attended.discard(attempt)
            elif what == "finish" and attempt.answer is None:
                retries.finished(attempt, "answer", 30 * which)
            elif what == "deliver":
                retries.delivered(attempt)
                attended.discard(attempt)
            elif what == "find":
                found = retries.find(account, b"body", 1, None)
                if found is not None:
                    self.assertNotIn(found, attended)
                    self.assertEqual(found.running, account)
                    attended.add(found)
            elif what == "wait":
                clock.advance(100 * which)
            kept = sum(lost.size for lost in retries._lost)
            self.assertEqual(retries.bytesKept, kept)
            self.assertLessEqual(kept, 100)
            self.assertFalse(attended & set(retries._lost))
        clock.advance(301)
        self.assertEqual((len(retries._lost), retries._byRequest, clock.getDelayedCalls()), (0, {}, []))

"""
Requests that are asked again.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from openai_server.errors import APIError
from openai_server.sessions import retries as module
from openai_server.sessions.retries import Attempt, Retries
from tests.support import SyncCase, TestClock


def attempt(
    count: int = 0,
    account: str = "a",
    body: bytes = b"body",
    session: bytes | None = None,
    key: bytes | None = None,
) -> Attempt[str]:
    """
    A request that may come again.
    """
    return Attempt(account, body, session, count, key)


class RetriesCase(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.retries: Retries[str] = Retries(self.clock)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.retries.stop)

    def begun(self, name: str = "turn", **of: object) -> Attempt[str]:
        """
        A request that something answers.
        """
        made = attempt(**of)  # type: ignore[arg-type]
        self.assertIsNone(self.retries.join(made))
        self.retries.begin(made, name)
        return made

    def lost(self, name: str = "turn", **of: object) -> Attempt[str]:
        """
        One whose client is gone.
        """
        made = self.begun(name, **of)
        self.retries.clientLeft(made)
        return made


class CountedTests(RetriesCase):
    """
    Retries that the client counts.
    """

    def test_joinsWhatRunsForALostClient(self) -> None:
        """
        K15: once; then a client is there again, of a higher count.
        """
        self.lost()
        self.assertEqual(self.retries.join(attempt(1)), "turn")
        self.assertIsNone(self.retries.join(attempt(1)))

    def test_joinsWhatRunsForAClientThatOnlyLooksAlive(self) -> None:
        """
        The client counts on: its old connection is dead, whatever it looks
        like.
        """
        self.begun()
        self.assertEqual(self.retries.join(attempt(1)), "turn")
        self.assertIsNone(self.retries.join(attempt(1)))
        self.assertEqual(self.retries.join(attempt(2)), "turn")

    def test_firstAttemptsEachRun(self) -> None:
        """
        Equal requests that are no retries are different questions.
        """
        self.lost()
        self.assertIsNone(self.retries.join(attempt(0)))
        self.assertIsNone(self.retries.join(attempt(-1)))

    def test_anotherRequest(self) -> None:
        """
        K15: another account, body, session or key joins nothing.
        """
        self.lost()
        others = (
            attempt(1, account="b"),
            attempt(1, body=b"other"),
            attempt(1, session=b"s"),
            attempt(1, key=b"k"),
        )
        self.assertEqual([self.retries.join(each) for each in others], [None] * 4)

    def test_lostOnesFirst(self) -> None:
        """
        Whose client is gone is joined before one whose client may be there.
        """
        self.begun("attended")
        self.lost("lost")
        self.assertEqual([self.retries.join(attempt(1)) for _ in range(3)], ["lost", "attended", None])

    def test_finishedAndUnreceived(self) -> None:
        """
        K15: the answer waits for its retry, for so long and no longer.
        """
        made = self.lost()
        self.retries.finished(made, 6)
        self.clock.advance(299)
        self.assertEqual((self.retries.join(attempt(1)), self.retries.bytesKept), ("turn", 6))
        self.clock.advance(1)
        self.assertEqual((self.retries.bytesKept, len(self.retries)), (0, 0))
        self.assertIsNone(self.retries.join(attempt(2)))

    def test_delivered(self) -> None:
        """
        What the client has is not kept for it.
        """
        made = self.begun()
        self.retries.finished(made, 6)
        self.retries.delivered(made)
        self.assertEqual((self.retries.bytesKept, len(self.retries)), (0, 0))
        self.retries.forget(made)
        self.assertIsNone(self.retries.join(attempt(1)))


class KeyTests(RetriesCase):
    """
    Requests with an C{Idempotency-Key}.
    """

    def test_allOfOneKeyAreOneQuestion(self) -> None:
        """
        While it runs and after it, whoever is there, whatever the count.
        """
        made = self.begun(key=b"k")
        self.assertEqual(self.retries.join(attempt(key=b"k")), "turn")
        self.retries.finished(made, 6)
        self.retries.delivered(made)
        self.assertEqual(self.retries.join(attempt(3, key=b"k")), "turn")
        self.clock.advance(300)
        self.assertIsNone(self.retries.join(attempt(key=b"k")))

    def test_anotherRequestUnderTheKey(self) -> None:
        """
        It is refused, and told not to come again; other accounts have keys of
        their own.
        """
        self.begun(key=b"k")
        error = self.assertRaises(APIError, self.retries.join, attempt(key=b"k", body=b"other"))
        self.assertEqual((error.kind.status, error.kind.code), (409, "idempotency_key_reused"))
        self.assertFalse(error.mayRetry)
        self.assertIsNone(self.retries.join(attempt(key=b"k", account="b", body=b"other")))

    def test_forgotten(self) -> None:
        """
        What could not be asked leaves the key free.
        """
        self.retries.forget(self.begun(key=b"k"))
        self.assertIsNone(self.retries.join(attempt(key=b"k", body=b"other")))


class WaitingTests(RetriesCase):
    """
    The same request while the first one is still waiting to be asked.
    """

    def setUp(self) -> None:
        super().setUp()
        self.first = attempt(key=b"k")
        self.assertIsNone(self.retries.join(self.first))
        joined = self.retries.join(attempt(key=b"k"))
        assert isinstance(joined, Deferred)
        self.joined = joined

    def test_getsWhatTheFirstGets(self) -> None:
        """
        It does not run a second time.
        """
        self.assertNoResult(self.joined)
        self.retries.begin(self.first, "turn")
        self.assertEqual(self.successResultOf(self.joined), "turn")

    def test_firstCameToNothing(self) -> None:
        """
        Then whoever joins next is the first.
        """
        self.retries.forget(self.first)
        self.assertIsNone(self.successResultOf(self.joined))
        self.assertIsNone(self.retries.join(attempt(key=b"k")))

    def test_givesUpWaiting(self) -> None:
        """
        Its client left: the first goes on.
        """
        self.joined.cancel()
        self.failureResultOf(self.joined, CancelledError)
        self.retries.begin(self.first, "turn")
        self.assertEqual(self.retries.join(attempt(key=b"k")), "turn")


class BoundsTests(RetriesCase):
    """
    What is kept is bounded.
    """

    def test_bytes(self) -> None:
        """
        The oldest answers go first, and one that is too large is not kept.
        """
        self.patch(module, "MAX_BYTES", 10)
        made = [self.lost(str(at), body=b"%d" % at) for at in range(4)]
        for each, size in zip(made, (6, 4, 5, 11), strict=True):
            self.retries.finished(each, size)
            self.assertLessEqual(self.retries.bytesKept, 10)
        self.assertEqual(len(self.retries), 0)

    def test_number(self) -> None:
        """
        Empty answers too.
        """
        self.patch(module, "MAX_ANSWERS", 2)
        for at in range(3):
            self.retries.finished(self.lost(str(at)), 0)
        self.assertEqual([self.retries.join(attempt(1)) for _ in range(3)], ["1", "2", None])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["begin", "lost", "finished", "delivered", "forget", "join"]),
                st.integers(0, 3),
                st.booleans(),
                st.integers(0, 40),
            )
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_anyOrderLeavesNothingBehind(self, events: list[tuple[str, int, bool, int]]) -> None:
        """
        Whatever happens in whatever order, the sum is right, and in the end
        nothing is left.
        """
        retries: Retries[str] = Retries(self.clock)
        made: list[Attempt[str]] = []
        for what, at, isKeyed, size in events:
            if what == "begin":
                one = attempt(size, key=b"k" if isKeyed else None)
                if retries.join(one) is None:
                    made.append(one)
                    retries.begin(one, str(len(made)))
            elif what == "join":
                one = attempt(at, key=b"k" if isKeyed else None)
                if retries.join(one) is None:
                    retries.forget(one)
            elif at < len(made):
                if what == "finished":
                    retries.finished(made[at], size)
                else:
                    {"lost": retries.clientLeft, "delivered": retries.delivered, "forget": retries.forget}[
                        what
                    ](made[at])
        kept = [each for each in made if each.response is not None]
        self.assertEqual((len(retries), retries.bytesKept), (len(kept), sum(each.size for each in kept)))
        retries.stop()
        self.assertEqual((len(retries), retries.bytesKept), (0, 0))

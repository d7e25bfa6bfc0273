"""
Tests for L{openai_server.accounts.limiter}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from openai_server.accounts.account import Account, AccountLimits
from openai_server.accounts.limiter import Limiter
from openai_server.errors import APIError
from tests.accounts.support import NOW, FakeAccounts, report
from tests.support import SyncCase

DAY = "2026-05-30"
MONTH = "2026-05"


def account(name: str = "alice", **limits: int) -> Account:
    """
    An account with limits.
    """
    return Account(name, name, limits=AccountLimits(**limits))


class LimiterTests(SyncCase):
    """
    Limits of accounts, and what is known of their use.
    """

    def setUp(self) -> None:
        super().setUp()
        self.seconds = 0.0
        self.store = FakeAccounts()
        self.limiter = Limiter(lambda: self.seconds, lambda: NOW + self.seconds, self.store)

    def letIn(self, whose: Account, tokens: int = 10) -> Any:
        """
        Let a request in, at once.
        """
        came = self.limiter.letIn(whose, lambda: tokens)
        if not isinstance(came, Deferred):
            return came
        results: list[Any] = []
        came.addBoth(results.append)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def test_noLimits(self) -> None:
        """
        Nothing is estimated where there is no limit, and nothing is said.
        """
        for limitless in (Account("a", "a"), account()):
            self.assertIsNone(self.limiter.letIn(limitless, lambda: 1 // 0))
            self.assertEqual(list(self.limiter.headers(limitless)), [])

    def test_accountsApart(self) -> None:
        """
        Each has its own limits, whichever of its keys is used.
        """
        self.letIn(account(rpm=1))
        self.assertRaises(APIError, self.letIn, account(rpm=1))
        self.letIn(account("bob", rpm=1))
        self.assertEqual(
            [dict(self.limiter.headers(account(each, rpm=1)))[b"x-ratelimit-remaining-requests"]
             for each in ("alice", "bob", "carol")],
            [b"0", b"0", b"1"],
        )

    def test_settled(self) -> None:
        """
        A turn's own tokens take the place of the estimate, input and output.
        """
        self.letIn(account(tpm=100), 90).bind("s")
        self.limiter.turnEnded(report("s", 40))
        headers = dict(self.limiter.headers(account(tpm=100)))
        self.assertEqual(headers[b"x-ratelimit-remaining-tokens"], b"60")

    def test_used(self) -> None:
        """
        What each account uses is kept, with limits or without, and counts for
        a budget that it is given later.
        """
        self.limiter.turnEnded(report("s", 40, "bob"))
        self.limiter.turnEnded(report("s", 0, "carol"))
        self.assertEqual(self.store.total, {("bob", DAY): 40, ("bob", MONTH): 40})
        self.letIn(account("bob", tokensPerDay=50), 10)
        self.assertRaises(APIError, self.letIn, account("bob", tokensPerDay=50), 1)

    def test_budgetIsReadFirst(self) -> None:
        """
        The first request waits until it is known what was used; what is used
        meanwhile counts too.
        """
        self.store.total["alice", DAY] = 60
        self.store.held = []
        limited = account(tokensPerDay=100)
        waiting: list[Any] = [self.limiter.letIn(limited, partial(int, tokens)) for tokens in (20, 21)]
        self.assertNoResult(waiting[0])
        self.limiter.turnEnded(report("t", 10))
        self.store.answer()
        self.successResultOf(waiting[0]).bind("s")
        self.failureResultOf(waiting[1], APIError)
        self.limiter.turnEnded(report("s", 25))
        self.assertRaises(APIError, self.letIn, limited, 6)
        self.letIn(limited, 5)
        self.assertEqual(self.store.total["alice", DAY], 95)

    def test_cancelled(self) -> None:
        """
        Whoever leaves meanwhile has had nothing.
        """
        self.store.held = []
        waiting: Any = self.limiter.letIn(account(tokensPerDay=100), lambda: 100)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.store.answer()
        self.letIn(account(tokensPerDay=100), 100)

    def test_cancelledReading(self) -> None:
        """
        What was used while several asked what was used counts, whoever of them
        is told of it.
        """
        self.store.held = []
        limited = account(tokensPerDay=100)
        waiting: Any = self.limiter.letIn(limited, lambda: 10)
        self.limiter.turnEnded(report("t", 60))
        leaving: Any = self.limiter.letIn(limited, lambda: 10)
        leaving.addErrback(lambda _: None)
        leaving.cancel()
        self.store.answer()
        self.successResultOf(waiting)
        self.assertRaises(APIError, self.letIn, limited, 31)
        self.letIn(limited, 30)

    def test_anotherDay(self) -> None:
        """
        A new day has a new budget, and the month goes on.
        """
        limited = account(tokensPerDay=50, tokensPerMonth=80)
        self.letIn(limited, 50).bind("s")
        self.limiter.turnEnded(report("s", 50))
        self.assertRaises(APIError, self.letIn, limited, 1)
        self.seconds = 86_400.0
        self.letIn(limited, 30).bind("t")
        self.limiter.turnEnded(report("t", 30))
        error = self.assertRaises(APIError, self.letIn, limited, 1)
        self.assertIn("this month", error.message)

    def test_storeIsAway(self) -> None:
        """
        What this process has seen counts until more can be read.
        """
        self.store.isAway = True
        self.store.total["alice", DAY] = 60
        limited = account(tokensPerDay=100)
        self.letIn(limited, 70).bind("s")
        self.limiter.turnEnded(report("s", 70))
        self.assertRaises(APIError, self.letIn, limited, 31)
        self.store.isAway = False
        self.assertRaises(APIError, self.letIn, limited, 1)

    def test_shared(self) -> None:
        """
        What other processes use is read once a second while it matters.
        """
        self.store.isShared = True
        limited = account(tokensPerDay=100)
        for _ in range(3):
            self.letIn(limited, 1)
        self.assertEqual(self.store.reads, 1)
        self.store.total["alice", DAY] = 98
        self.seconds = 1.0
        self.assertRaises(APIError, self.letIn, limited, 1)
        self.assertEqual(self.store.reads, 2)
        self.letIn(account(rpm=9), 1)
        self.assertEqual(self.store.reads, 2)

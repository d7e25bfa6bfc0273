"""
Tests for L{openai_server.web.bodybudget}.
"""

from __future__ import annotations

import gzip

from openai_server.errors import APIError
from openai_server.web.body import bodyFor
from openai_server.web.bodybudget import RETRY_SECONDS, BodyBudget
from tests.support import SyncCase


class BodyBudgetTests(SyncCase):
    """
    C34: bodies that are received at the same time.
    """

    def setUp(self) -> None:
        super().setUp()
        self.budget = BodyBudget(100, 50)

    def refused(self, *pieces: bytes, encoding: bytes = b"") -> APIError:
        """
        The error for the last piece of a body.
        """
        body = bodyFor(encoding, 1000, self.budget.share())
        *before, last = pieces
        for piece in before:
            body.write(piece)
        return self.assertRaises(APIError, body.write, last)

    def test_together(self) -> None:
        """
        Bodies that are each small enough are refused when all of them are too
        large: with 503, and when to come again.
        """
        first = self.budget.share()
        bodyFor(b"", 1000, first).write(b"x" * 60)
        error = self.refused(b"y" * 40, b"y")
        self.assertEqual((error.kind.status, error.retryAfter), (503, RETRY_SECONDS))
        self.assertEqual(self.budget.held, 100)
        first.release()
        self.assertEqual(self.budget.held, 40)

    def test_decodedBytesCount(self) -> None:
        """
        Of a compressed body what comes out of it.
        """
        self.assertEqual(self.refused(gzip.compress(b"x" * 500), encoding=b"gzip").kind.status, 503)
        self.assertEqual(self.budget.held, 0)

    def test_releasedTwice(self) -> None:
        """
        By whoever takes the body, and at the request's end: it counts once.
        """
        share = self.budget.share()
        share.grow(60)
        share.release()
        share.release()
        self.assertEqual(self.budget.held, 0)
        share.grow(100)
        self.assertEqual(self.budget.held, 100)

    def test_ownLimitFirst(self) -> None:
        """
        A body that is too large by itself is told so, and holds nothing more.
        """
        body = bodyFor(b"", 10, self.budget.share())
        error = self.assertRaises(APIError, body.write, b"x" * 101)
        self.assertEqual((error.kind.status, self.budget.held), (413, 0))

    def test_largestBody(self) -> None:
        """
        Can come, whatever the budget.
        """
        BodyBudget(100, 500).share().grow(500)

    def test_withoutABudget(self) -> None:
        """
        A body may have none.
        """
        body = bodyFor(b"", 1000)
        body.write(b"x" * 500)
        self.assertEqual(len(body.complete()), 500)

"""
Tests for L{openai_server.coroutines}.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from openai_server.coroutines import begun
from tests.support import SyncCase


class BegunTests(SyncCase):
    """
    A coroutine that waits a few times, or never.
    """

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[Any] = []

    async def work(self, *waits: Deferred[Any]) -> None:
        """
        Note what each wait brings, and that it is done.
        """
        for wait in waits:
            try:
                self.seen.append(await wait)
            except (ValueError, CancelledError) as error:
                self.seen.append(type(error))
        self.seen.append("done")

    def test_nothingToWaitFor(self) -> None:
        """
        It is done at once, also when what it awaits has fired already.
        """
        fired: Deferred[int] = Deferred()
        fired.callback(1)
        self.assertIsNone(begun(self.work()))
        self.assertIsNone(begun(self.work(fired)))
        self.assertEqual(self.seen, ["done", 1, "done"])

    def test_waits(self) -> None:
        """
        Results and failures come to where they are awaited, in the same call.
        """
        waits: list[Deferred[Any]] = [Deferred(), Deferred(), Deferred()]
        following = begun(self.work(*waits))
        assert following is not None
        waits[0].callback(1)
        self.assertEqual(self.seen, [1])
        waits[1].errback(ValueError())
        self.assertNoResult(following)
        waits[2].callback(None)
        self.assertIsNone(self.successResultOf(following))
        self.assertEqual(self.seen, [1, ValueError, None, "done"])

    def test_forgotten(self) -> None:
        """
        One that nobody holds any more goes quietly, also when it was closed before.
        """
        said: list[Any] = []
        self.patch(sys, "unraisablehook", said.append)
        work = self.work(Deferred())
        following = begun(work)
        work.close()
        del following, work
        gc.collect()
        self.assertEqual((said, self.seen), ([], []))

    def test_cancelling(self) -> None:
        """
        What it waits for now is cancelled.
        """
        waits: list[Deferred[Any]] = [Deferred(), Deferred()]
        following = begun(self.work(*waits))
        assert following is not None
        waits[0].callback(1)
        following.cancel()
        self.assertEqual(self.seen, [1, CancelledError, "done"])
        self.successResultOf(following)

    def test_exceptions(self) -> None:
        """
        Before the first wait they are the caller's, after it the Deferred's.
        """

        async def broken(wait: Deferred[None] | None) -> None:
            if wait is not None:
                await wait
            raise KeyError

        self.assertRaises(KeyError, begun, broken(None))
        wait: Deferred[None] = Deferred()
        following = begun(broken(wait))
        assert following is not None
        wait.callback(None)
        self.failureResultOf(following, KeyError)

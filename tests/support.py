"""
What every test case of this project shares: a warning fails the test.
"""

from __future__ import annotations

from twisted.internet import task
from twisted.trial import unittest

from tests.dialects import CHAT


class _Strict:
    """
    Fails a test that left warnings behind: C{-W error} does not reach the
    workers of C{trial -j}.
    """

    def _failOnWarnings(self: unittest.SynchronousTestCase) -> None:  # type: ignore[misc]
        found = [
            f"{warning['category'].__name__}: {warning['message']} ({warning['filename']})"
            for warning in self.flushWarnings()
            if "openai_server" in warning["filename"] or "/tests/" in warning["filename"]
        ]
        self.assertEqual(found, [])


class SyncCase(_Strict, unittest.SynchronousTestCase):
    """
    A test without a reactor.

    @cvar api: the one that its clients ask in.
    """

    api = CHAT

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self._failOnWarnings)


class AsyncCase(_Strict, unittest.TestCase):
    """
    A test with the real reactor.
    """

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self._failOnWarnings)


class TestClock(task.Clock):
    """
    A clock moved by hand, whose calls can be made to come early.
    """

    __test__ = False

    def step(self, seconds: float) -> None:
        """
        Let the wall clock, on which the reactor's calls run, jump ahead.
        """
        for call in self.getDelayedCalls():
            call.reset(max(0.0, call.getTime() - self.seconds() - seconds))
        self.advance(0)


class RecordedOutput:
    """
    An output of the log that counts how often it was written to.

    @ivar hasRoom: whether it takes anything.
    @ivar reopened: how often it was opened again.
    """

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.hasRoom = True
        self.reopened = 0

    def write(self, lines: bytes) -> int:
        if not self.hasRoom:
            raise BlockingIOError
        self.writes.append(lines)
        return len(lines)

    def isReady(self, seconds: float) -> bool:
        return False

    def reopen(self) -> None:
        self.reopened += 1

    def getvalue(self) -> str:
        """
        All that was written.
        """
        return b"".join(self.writes).decode()

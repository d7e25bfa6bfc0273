"""
What every test case of this project shares: a warning fails the test.
"""

from __future__ import annotations

from twisted.internet import task
from twisted.trial import unittest


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
    """

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
    A clock moved by hand: the reactor's time and the monotonic one together,
    or the reactor's alone.
    """

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self._stepped = 0.0

    def monotonic(self) -> float:
        """
        Seconds advanced so far, steps of the wall clock left out.
        """
        return self.seconds() - self._stepped

    def step(self, seconds: float) -> None:
        """
        Let the wall clock, on which the reactor runs, jump.
        """
        self._stepped += seconds
        self.advance(seconds)

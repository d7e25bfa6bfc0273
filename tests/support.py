"""
What every test case of this project shares: a warning fails the test.
"""

from __future__ import annotations

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

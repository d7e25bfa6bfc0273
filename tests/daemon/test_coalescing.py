"""
Tests for L{openai_server.daemon.coalescing}.
"""

from __future__ import annotations

from openai_server.daemon.coalescing import PAUSE, READS, SMALL, ReadCoalescing
from tests.support import SyncCase, TestClock


class Pausing:
    """
    Remembers whether it is paused, and how often it was.
    """

    def __init__(self) -> None:
        self.isPaused = False
        self.pauses = 0

    def pauseProducing(self) -> None:
        self.isPaused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.isPaused = False


class CoalescingTests(SyncCase):
    """
    When reading pauses.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.clock.advance(100)
        self.transport = Pausing()
        self.coalescing = ReadCoalescing(self.clock, self.transport)

    def read(self, times: int, gap: float = PAUSE / 4, size: int = 100, mayPause: bool = True) -> None:
        """
        Read so often.
        """
        for _ in range(times):
            self.clock.advance(gap)
            self.coalescing.noteRead(size, mayPause)

    def test_manySmallReads(self) -> None:
        """
        The first read begins a row; eight more in it make a pause of a
        millisecond.
        """
        self.read(READS)
        self.assertFalse(self.transport.isPaused)
        self.read(1)
        self.assertTrue(self.transport.isPaused)
        self.clock.advance(PAUSE)
        self.assertFalse(self.transport.isPaused)

    def test_goesOnWhileMuchIsSaid(self) -> None:
        """
        The read right after a pause makes the next one.
        """
        self.read(READS + 1)
        for _ in range(5):
            self.clock.advance(PAUSE)
            self.read(1)
        self.assertEqual(self.transport.pauses, 6)
        self.clock.advance(PAUSE)

    def test_idleAfterAPause(self) -> None:
        """
        When nothing came in the pause, the row is over.
        """
        self.read(READS + 1)
        self.clock.advance(PAUSE)
        self.read(1, gap=2 * PAUSE)
        self.assertFalse(self.transport.isPaused)

    def test_slowReads(self) -> None:
        """
        Reads that are far apart never pause.
        """
        self.read(100, gap=PAUSE)
        self.assertEqual(self.transport.pauses, 0)

    def test_flood(self) -> None:
        """
        A big read begins anew, so that a flood never pauses.
        """
        self.read(READS)
        self.read(1, size=SMALL)
        self.read(READS - 1)
        self.read(100, size=SMALL)
        self.assertEqual(self.transport.pauses, 0)

    def test_congested(self) -> None:
        """
        Nothing pauses while something waits to be sent.
        """
        self.read(100, mayPause=False)
        self.assertEqual(self.transport.pauses, 0)

    def test_readsOfAPauseMakeNoOther(self) -> None:
        """
        One timer at a time.
        """
        self.read(READS + 1)
        self.coalescing.noteRead(100, True)
        self.assertEqual((self.transport.pauses, len(self.clock.getDelayedCalls())), (1, 1))
        self.clock.advance(PAUSE)

    def test_lostTimer(self) -> None:
        """
        When the wall clock is set back and the timer with it, the next write
        ends the pause.
        """
        self.read(READS + 1)
        self.coalescing.noteWrite()
        self.assertTrue(self.transport.isPaused)
        [timer] = self.clock.getDelayedCalls()
        timer.delay(7200)
        self.clock.advance(1)
        self.coalescing.noteWrite()
        self.assertFalse(self.transport.isPaused)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connectionLost(self) -> None:
        """
        No timer stays.
        """
        self.coalescing.stop()
        self.read(READS + 1)
        self.coalescing.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

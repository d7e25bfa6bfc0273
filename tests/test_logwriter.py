"""
Tests for L{openai_server.logwriter}.
"""

from __future__ import annotations

from openai_server.logwriter import MOST_UNWRITTEN, LineWriter
from tests.support import SyncCase, TestClock


class NarrowOutput:
    """
    An output that has room for so much, like a pipe.

    @ivar room: bytes that it takes now.
    @ivar refill: the room that a reader makes when it is waited for.
    """

    def __init__(self) -> None:
        self.taken = b""
        self.room = 10**9
        self.attempts = 0
        self.refill = 0
        self.waits: list[float] = []

    def write(self, lines: bytes) -> int:
        self.attempts += 1
        if not self.room:
            raise BlockingIOError
        taken = lines[: self.room]
        self.taken += taken
        self.room -= len(taken)
        return len(taken)

    def isReady(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.room = self.refill
        return bool(self.room)

    def reopen(self) -> None: ...


class LineWriterTests(SyncCase):
    """
    V16: lines go out in order and whole, or are kept, or dropped and counted.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.output = NarrowOutput()
        self.writer = LineWriter(lambda: self.output, lambda count: b"dropped %d\n" % count, self.clock)

    def tearDown(self) -> None:
        """
        A timer runs as long as something is kept, and no longer.
        """
        self.output.room = 10**9
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_withRoom(self) -> None:
        """
        They are written at once, and no timer is left.
        """
        self.writer.write(b"a\nb\n")
        self.assertEqual(self.output.taken, b"a\nb\n")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_roomForAPart(self) -> None:
        """
        The rest follows before anything else.
        """
        self.output.room = 3
        self.writer.write(b"abcdef\n")
        self.output.room = 100
        self.writer.write(b"g\n")
        self.clock.advance(0.01)
        self.assertEqual(self.output.taken, b"abcdef\ng\n")

    def test_howOftenItIsTried(self) -> None:
        """
        Soon at first, each second while nobody reads, and soon again.
        """
        self.output.room = 0
        self.writer.write(b"a\n")
        self.clock.pump([0.01] * 100)
        self.assertLess(self.output.attempts, 9)
        self.clock.pump([1] * 10)
        self.assertLess(self.output.attempts, 20)
        self.output.room = 1
        self.clock.advance(1)
        self.output.room = 1
        self.clock.advance(0.01)
        self.assertEqual(self.output.taken, b"a\n")

    def test_bound(self) -> None:
        """
        Lines beyond 1 MiB are dropped, those before stay, and the note stands
        where the others are missing.
        """
        line = b"x" * 1023 + b"\n"
        self.output.room = 0
        for _ in range(MOST_UNWRITTEN // 1024):
            self.writer.write(line)
        self.writer.write(b"a\nb\n")
        self.writer.write(b"c\n")
        self.output.room = 100 * 1024
        self.clock.advance(1)
        self.writer.write(b"d\n")
        self.output.room = 10**9
        self.clock.advance(1)
        self.assertEqual(self.output.taken, line * (MOST_UNWRITTEN // 1024) + b"dropped 3\nd\n")

    def test_noteWithoutAnotherLine(self) -> None:
        """
        It needs none to come out.
        """
        self.output.room = 0
        self.writer.write(b"a\n")
        self.writer.write(b"\n" * MOST_UNWRITTEN)
        self.output.room = 10**9
        self.clock.advance(1)
        self.assertEqual(self.output.taken, b"a\ndropped %d\n" % MOST_UNWRITTEN)

    def test_outputThatOpensLate(self) -> None:
        """
        A file that cannot be opened yet gets the lines when it can.
        """
        refused = [OSError(), OSError()]

        def openOutput() -> NarrowOutput:
            if refused:
                raise refused.pop()
            return self.output

        writer = LineWriter(openOutput, lambda count: b"", self.clock)
        writer.write(b"a\n")
        writer.reopen()
        writer.finish()
        self.assertEqual(self.output.taken, b"")
        self.clock.advance(1)
        self.assertEqual(self.output.taken, b"a\n")

    def test_lastLines(self) -> None:
        """
        When the reactor has stopped, a reader that is slow gets a second.
        """
        self.output.room, self.output.refill = 0, 2
        self.writer.write(b"abcdef\n")
        self.writer.finish()
        self.assertEqual(self.output.taken, b"abcdef\n")
        self.assertTrue(0.5 < self.output.waits[0] <= 1)

    def test_lastLinesWithoutReader(self) -> None:
        """
        Or they are given up.
        """
        self.output.room = 0
        self.writer.write(b"a\n")
        self.writer.finish()
        self.assertEqual(len(self.output.waits), 1)

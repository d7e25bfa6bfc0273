"""
Tests for L{openai_server.daemon.protocol}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from openai_server.daemon.backlog import OUTBOUND_LIMIT
from openai_server.daemon.protocol import ThrumProtocol
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.wire.tones import Attach, Breath, Chunk, FromBee, FromDaemon
from tests.daemon.world import BREATH, Transport, chunk, linesFrom
from tests.support import SyncCase, TestClock


class Receiving:
    """
    A receiver that remembers.
    """

    def __init__(self) -> None:
        self.batches: list[list[FromDaemon]] = []
        self.events: list[str] = []
        self.poison = False

    def opening(self, protocol: ThrumProtocol) -> Iterable[FromBee]:
        return [Attach(rid="r", sid="first")]

    def connectionReady(self, protocol: ThrumProtocol) -> None:
        self.events.append("ready")

    def tonesReceived(self, tones: list[FromDaemon]) -> None:
        self.batches.append(tones)
        if self.poison:
            raise RuntimeError("poison")

    def connectionGone(self, protocol: ThrumProtocol, why: str) -> None:
        self.events.append(why)

    @property
    def text(self) -> str:
        """
        All deltas.
        """
        return "".join(tone.delta for batch in self.batches for tone in batch if isinstance(tone, Chunk))


class ProtocolCase(SyncCase):
    """
    One connection.
    """

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self) -> None:
        """
        Make a connection anew.
        """
        self.clock = TestClock()
        self.receiving = Receiving()
        self.transport = Transport()
        self.bad: Counter[str] = Counter()
        self.protocol = ThrumProtocol(
            receiver=self.receiving,
            clock=self.clock,
            timeouts=WaitLimits(),
            newRid=lambda: "beat",
            badTones=self.bad,
        )
        self.protocol.makeConnection(self.transport)

    def breathe(self) -> None:
        """
        The daemon's first tone.
        """
        self.protocol.dataReceived(linesFrom([BREATH]))
        self.transport.clear()


class HandshakeTests(ProtocolCase):
    """
    From the connection to readiness.
    """

    def test_readyWithTheFirstBreath(self) -> None:
        """
        The opening is written at once; ready comes with the first breath, once.
        """
        self.assertEqual(self.transport.value(), b'{"chi":"attach","rid":"r","sid":"first"}\n')
        self.protocol.dataReceived(linesFrom([{"chi": "pulse"}]))
        self.assertFalse(self.protocol.isReady)
        self.breathe()
        self.breathe()
        self.assertTrue(self.protocol.isReady)
        self.assertEqual(self.receiving.events, ["ready"])

    def test_noBreath(self) -> None:
        """
        (S4) A daemon that does not breathe within 5 s is left, by us.
        """
        self.clock.advance(4.9)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.aborted)
        self.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.receiving.events, ["no breath from the daemon within 5 s"])

    def test_breathAfterTheVerdict(self) -> None:
        """
        (S4) A breath that comes when the connection is being closed makes nothing ready.
        """
        self.clock.advance(5)
        self.breathe()
        self.assertEqual(self.receiving.events, [])

    def test_lostAtEveryByteOfTheHandshake(self) -> None:
        """
        (S6) (S9) Wherever the loss falls, no timer stays and half a breath is nothing.
        """
        breath = linesFrom([BREATH])
        for cut in range(len(breath)):
            self.begin()
            self.protocol.dataReceived(breath[:cut]) if cut else None
            self.protocol.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.receiving.events, ["connection lost: ConnectionDone"])
            self.assertEqual(self.receiving.batches, [])
            self.assertEqual(self.clock.getDelayedCalls(), [])


class HeartbeatTests(ProtocolCase):
    """
    Is anybody there?
    """

    def setUp(self) -> None:
        super().setUp()
        self.breathe()

    def test_heartbeatUnanswered(self) -> None:
        """
        (S19) After 15 s a perf-mark goes out; nothing within 10 s of it closes.
        """
        self.clock.advance(14.9)
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.transport.value(), b'{"chi":"perf-mark","rid":"beat"}\n')
        self.clock.advance(9.9)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.aborted)
        self.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.receiving.events[-1], "no answer to a heartbeat within 10 s")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heartbeatAnswered(self) -> None:
        """
        (S19) An echo, or anything else, is an answer, and the next beat
        follows 15 s after the first.
        """
        wait = 15
        for _ in range(3):
            self.transport.clear()
            self.clock.advance(wait)
            self.assertEqual(self.transport.value(), b'{"chi":"perf-mark","rid":"beat"}\n')
            self.protocol.dataReceived(linesFrom([{"chi": "echo", "rid": "beat", "ok": True}]))
            self.clock.advance(10)
            wait = 5
        self.assertFalse(self.transport.aborted)

    def test_lateLoopIsNoVerdict(self) -> None:
        """
        (V10) A program that was stopped for a minute looks once more before
        it gives the daemon up: the answer may lie unread in the socket.
        """
        self.clock.advance(15)
        self.clock.advance(60)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_steppedClock(self) -> None:
        """
        (V8) When the wall clock jumps two hours, nothing is sent or closed early.
        """
        self.clock.step(7200)
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(15)
        self.clock.step(7200)
        self.assertFalse(self.transport.aborted)


class LineTests(ProtocolCase):
    """
    From bytes to tones.
    """

    def setUp(self) -> None:
        super().setUp()
        self.breathe()
        self.receiving.batches.clear()

    def test_oneReadIsOneCall(self) -> None:
        """
        All tones of a read are handed on together.
        """
        self.protocol.dataReceived(linesFrom([chunk("s", "a"), chunk("t", "b"), chunk("s", "c")]))
        self.assertEqual([len(batch) for batch in self.receiving.batches], [3])

    def test_lineReceived(self) -> None:
        """
        A single line, without its newline, means what it always means.
        """
        self.protocol.lineReceived(linesFrom([chunk("s", "a")])[:-1])
        self.assertEqual(self.receiving.text, "a")

    def test_sendLine(self) -> None:
        """
        The delimiter is added, in one write.
        """
        self.protocol.sendLine(b"{}")
        self.assertEqual(self.transport.writes[-1], b"{}\n")

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_anySplit(self, data: st.DataObject) -> None:
        """
        (S10) Tones split and joined anywhere give the same text.
        """
        self.begin()
        texts = data.draw(st.lists(st.text(max_size=8), max_size=8))
        stream = linesFrom([BREATH, *(chunk("s", text) for text in texts)])
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            self.protocol.dataReceived(stream[start:end])
        self.assertEqual(self.receiving.text, "".join(texts))
        self.assertEqual(self.bad, Counter())

    def test_oneByteAtATime(self) -> None:
        """
        (S10) Also byte by byte.
        """
        for byte in linesFrom([chunk("s", "héllo"), chunk("s", "!")]):
            self.protocol.dataReceived(bytes([byte]))
        self.assertEqual(self.receiving.text, "héllo!")

    def test_longLineInManyReads(self) -> None:
        """
        (S11) (S10) A line of 4 MiB in reads of 4 KiB: its pieces are joined once.
        """
        line = linesFrom([chunk("s", "x" * (4 << 20))])
        joined: list[int] = []
        release = self.protocol._release

        def counting() -> bytes:
            joined.append(1)
            return release()

        self.protocol._release = counting  # type: ignore[method-assign]
        for start in range(0, len(line), 4096):
            self.protocol.dataReceived(line[start : start + 4096])
        self.assertEqual(len(self.receiving.text), 4 << 20)
        self.assertEqual(len(joined), 1)

    def test_longestLine(self) -> None:
        """
        (S11) A line of 16 MiB arrives.
        """
        self.protocol.dataReceived(linesFrom([chunk("s", "x" * (16 << 20))]))
        self.assertEqual(len(self.receiving.text), 16 << 20)

    def test_tooLongLineIsSkipped(self) -> None:
        """
        (S11) (S12) Beyond the cap nothing is kept; the next line arrives, in the
        read that ends the long one and afterwards, and the connection stays.
        """
        self.protocol.MAX_LENGTH = 200
        for _ in range(100):
            self.protocol.dataReceived(b"x" * 50)
            self.assertLessEqual(sum(map(len, self.protocol._held)), 200)
        self.assertEqual(self.bad, Counter({"too-long": 1}))
        self.protocol.dataReceived(b"xxx\n" + linesFrom([chunk("s", "a")]))
        self.protocol.dataReceived(linesFrom([chunk("s", "b")]))
        self.assertEqual(self.receiving.text, "ab")
        self.assertFalse(self.transport.disconnecting)

    def test_tooLongLineWithinARead(self) -> None:
        """
        (S11) Also when it ends in the read in which it gets too long, or
        stands between others.
        """
        self.protocol.MAX_LENGTH = 200
        long = linesFrom([chunk("s", "x" * 300)])
        self.protocol.dataReceived(linesFrom([chunk("s", "a")]) + long + linesFrom([chunk("s", "b")]))
        self.protocol.dataReceived(long[:150])
        self.protocol.dataReceived(long[150:] + linesFrom([chunk("s", "c")]))
        self.assertEqual(self.receiving.text, "abc")
        self.assertEqual(self.bad, Counter({"too-long": 2}))

    def test_badLines(self) -> None:
        """
        (S13) (X4) What cannot be read or is not known is dropped and counted;
        its neighbours in the same read arrive.
        """
        for line, reason in [
            (b"{", "json"),
            (b"[1]", "json"),
            (b'"x"', "json"),
            (b"null", "json"),
            (b'{"sid":"s"}', "json"),
            (b'{"chi":5}', "json"),
            (b'{"chi":"chunk"}', "json"),
            (b'{"chi":"chunk","sid":7}', "json"),
            (b'{"chi":"chunk","sid":null}', "json"),
            (b'{"chi":"finish"}', "json"),
            (b'{"chi":"tool-call","sid":"s"}', "json"),
            (b'{"chi":"new-thing","sid":"s"}', "unknown-chi"),
            (b'{"chi":"chunk","sid":"s","delta":"\\ud83d"}', "json"),
            (b'{"chi":"chunk","sid":"s","delta":"\xff"}', "utf-8"),
            (b'{"chi":"chunk","sid":"s","delta":NaN}', "json"),
            (b'{"chi":"chunk","sid":"s","delta":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nesting"),
        ]:
            self.bad.clear()
            self.receiving.batches.clear()
            self.protocol.dataReceived(
                linesFrom([chunk("s", "a")]) + line + b"\n" + linesFrom([chunk("s", "b")])
            )
            self.assertEqual(self.receiving.text, "ab", line[:60])
            self.assertEqual(self.bad, Counter({reason: 1}), line[:60])
        self.assertFalse(self.transport.disconnecting)

    def test_badLinesAreLoggedRarelyAndWithoutTheirText(self) -> None:
        """
        (S13) One log line a minute, with counts only.
        """
        events: list[object] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for _ in range(50):
            self.protocol.dataReceived(b'{"chi":"secret words"\n')
        self.assertEqual(len(events), 1)
        self.assertNotIn("secret", repr(events))
        self.clock.advance(60)
        self.protocol.dataReceived(b"{\n")
        self.assertEqual(len([event for event in events if "dropped" in repr(event)]), 2)

    def test_harmlessBytes(self) -> None:
        """
        (S14) CRLF, blank lines and spaces around a tone change nothing.
        """
        tone = linesFrom([chunk("s", "a")])[:-1]
        self.protocol.dataReceived(b"\n\r\n  \n" + tone + b"\r\n\t " + tone + b"  \n")
        self.assertEqual(self.receiving.text, "aa")
        self.assertEqual(self.bad, Counter())

    def test_byteOrderMark(self) -> None:
        """
        (S14) A byte order mark costs its own line, not the connection.
        """
        self.protocol.dataReceived(b"\xef\xbb\xbf" + linesFrom([chunk("s", "a"), chunk("s", "b")]))
        self.assertEqual(self.receiving.text, "b")

    def test_halfLineIsForgotten(self) -> None:
        """
        (S9) What a lost connection left is not joined with anything.
        """
        line = linesFrom([chunk("s", "a")])
        for cut in range(1, len(line)):
            self.begin()
            self.protocol.dataReceived(line[:cut])
            self.protocol.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.receiving.text, "")
            self.assertEqual(self.protocol._held, [])

    def test_receiverRaises(self) -> None:
        """
        (P10) An exception behind the connection does not drop it.
        """
        self.receiving.poison = True
        self.protocol.dataReceived(linesFrom([chunk("s", "a")]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.receiving.poison = False
        self.protocol.dataReceived(linesFrom([chunk("s", "b")]))
        self.assertEqual(self.receiving.text, "ab")
        self.assertFalse(self.transport.disconnecting)

    def test_burst(self) -> None:
        """
        (S21) 50,000 tones in reads of 64 KiB are all there, and reading was
        never paused.
        """
        stream = linesFrom([chunk("s", f"{number:06d}") for number in range(50_000)])
        for start in range(0, len(stream), 65536):
            self.protocol.dataReceived(stream[start : start + 65536])
        self.assertEqual(self.receiving.text, "".join(f"{number:06d}" for number in range(50_000)))
        self.assertFalse(self.transport.wasPaused)


class BacklogTests(ProtocolCase):
    """
    (S15) A daemon that reads slowly.
    """

    def setUp(self) -> None:
        super().setUp()
        self.breathe()
        self.producer = self.transport.producer

    def write(self, *sizes: int) -> None:
        """
        Send lines of these sizes.
        """
        for size in sizes:
            self.protocol.sendLine(b"x" * (size - 1))

    def test_congestedBeyondTheLimit(self) -> None:
        """
        (S15) What is written while the transport's buffer is full counts,
        until it is empty again.
        """
        assert self.producer is not None
        self.write(100)
        self.producer.pauseProducing()
        self.write(OUTBOUND_LIMIT - 100)
        self.assertFalse(self.protocol.backlog.isOver)
        self.write(1)
        self.assertTrue(self.protocol.backlog.isOver)
        self.producer.resumeProducing()
        self.assertFalse(self.protocol.backlog.isOver)

    def test_oneHugeWriteThatIsTaken(self) -> None:
        """
        (S15) A line above the limit is no congestion when the transport took it.
        """
        self.write(OUTBOUND_LIMIT + 1)
        self.assertFalse(self.protocol.backlog.isOver)

    def test_backlogNeverPausesReading(self) -> None:
        """
        (I6) The transport's wish concerns writing alone.
        """
        assert self.producer is not None
        self.producer.pauseProducing()
        self.producer.stopProducing()
        self.assertFalse(self.transport.wasPaused)

    def test_closeWithAFullBuffer(self) -> None:
        """
        Closing gives up the producer first: a transport with a paused one
        would wait for it for ever.
        """
        assert self.producer is not None
        self.producer.pauseProducing()
        self.protocol.close()
        self.assertIsNone(self.transport.producer)
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.protocol.isReady)


def kinds(batch: Sequence[FromDaemon]) -> list[type]:
    """
    The types of tones.
    """
    return [type(tone) for tone in batch]


class OrderTests(ProtocolCase):
    """
    What is told when.
    """

    def test_readyBeforeTheTonesOfThatRead(self) -> None:
        """
        Readiness is told before the tones that came with the breath.
        """
        self.protocol.dataReceived(linesFrom([BREATH, chunk("s", "a")]))
        self.assertEqual(self.receiving.events, ["ready"])
        self.assertEqual(kinds(self.receiving.batches[0]), [Breath, Chunk])

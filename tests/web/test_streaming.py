"""
Tests for L{openai_server.web.streaming} and L{openai_server.web.outflow}.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from openai_server.errors import End
from openai_server.web.headers import keepAliveInterval
from openai_server.web.http import EARLY_BYTES
from openai_server.web.sendqueue import QUEUE_BYTES, SLICE, STILL_BYTES
from tests.web.support import Asked, Stream, WebCase, answersIn, get, post
from tests.web.transports import WireTransport

PING = b"data: ping\n\n"
EVENT = b"data: " + b"x" * 1016 + b"\n\n"


def unchunked(body: bytes) -> tuple[bytes, bool]:
    """
    What a chunked body holds, and whether it has its end.
    """
    held = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            return held, body == b"\r\n"
        held, body = held + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return held, False


class StreamCase(WebCase):
    """
    A test with one stream open.
    """

    def open(self, kernelSize: int = 1 << 30, data: bytes | None = None) -> None:
        """
        Ask, and begin a stream with one event.
        """
        self.wire: WireTransport = self.connect(kernelSize)
        self.asked: Asked = self.begin(self.wire, data)
        self.asked.answer.addErrback(lambda _: None)
        self.stream: Stream = self.asked.stream()
        self.stream.write(b"data: role\n\n")

    def taken(self) -> tuple[bytes, bool]:
        """
        All that the client has read, and whether the stream had a clean end.
        """
        head, _, body = self.wire.received.partition(b"\r\n\r\n")
        self.assertIn(b"Transfer-Encoding: chunked", head)
        return unchunked(body)

    def finish(self) -> None:
        """
        End the stream and the work.
        """
        self.stream.finish()
        self.asked.answer.callback(None)

    def blocked(self) -> None:
        """
        A stream to a client that reads nothing, whose kernel and transport
        are full: whatever is written now is queued here.
        """
        self.open(kernelSize=4096)
        # A slice with its framing.
        self.stream.write(b"y" * (SLICE - 8))
        self.wire.run()
        self.assertEqual((self.wire.pauses, self.stream.queued), (1, 0))


class FramingTests(StreamCase):
    """
    How a stream looks on the wire.
    """

    def test_head(self) -> None:
        """
        The head that proxies and clients want, and the caller's headers.
        """
        self.open()
        self.wire.read()
        head = self.wire.received.partition(b"\r\n\r\n")[0].lower().decode()
        for line in (
            "http/1.1 200 ok",
            "content-type: text/event-stream; charset=utf-8",
            "cache-control: no-cache, no-transform",
            "x-accel-buffering: no",
            "transfer-encoding: chunked",
            "x-hum-session: s1",
        ):
            self.assertIn(line, head.split("\r\n"))
        self.assertIn("x-request-id: ", head)
        self.assertNotIn("content-length", head)
        self.assertNotIn("content-encoding", head)

    def test_oneWriteAnEvent(self) -> None:
        """
        The head and the first event leave in one write, every later event in
        one of its own, in one chunk.
        """
        self.open()
        self.assertEqual(len(self.wire.writes), 1)
        self.assertTrue(self.wire.writes[0].endswith(b"\r\n\r\nc\r\ndata: role\n\n\r\n"))
        self.stream.write(EVENT)
        self.assertEqual(self.wire.writes[1], b"400\r\n" + EVENT + b"\r\n")
        self.stream.write(EVENT * 3)
        self.assertEqual(len(self.wire.writes), 3)

    def test_beginSendsNothing(self) -> None:
        """
        Until the first event nothing is decided for the client.
        """
        wire = self.connect()
        asked = self.begin(wire)
        stream = asked.stream()
        self.assertEqual((wire.writes, stream.hasBegun, stream.isOpen), ([], False, False))
        stream.write(b"data: 1\n\n")
        self.assertTrue(stream.hasBegun and stream.isOpen)

    def test_finish(self) -> None:
        """
        A complete stream ends with the last chunk, and the connection serves
        the next request.
        """
        self.open()
        self.finish()
        self.wire.read()
        self.assertEqual(self.taken(), (b"data: role\n\n", True))
        self.assertEqual((self.stream.isOpen, self.stream.hasEnded), (False, True))
        self.wire.send(get("/healthz"))
        self.assertEqual(answersIn(self.wire.read())[0].status, 200)
        self.assertEqual(self.ends(), ["ok", "ok"])

    def test_fail(self) -> None:
        """
        A stream that failed ends with its event, without the last chunk, and
        so does the connection, which has sent everything before.
        """
        self.open()
        self.stream.write(EVENT)
        self.asked.request.setEnd(End.STALLED)
        self.stream.fail(b"data: error\n\n")
        self.asked.answer.callback(None)
        self.wire.read()
        self.assertEqual(self.taken(), (b"data: role\n\n" + EVENT + b"data: error\n\n", False))
        self.assertEqual((self.wire.how, self.ends(), self.asked.gone), ("closed", ["up-stall"], []))

    def test_nothingAfterTheEnd(self) -> None:
        """
        What is said to a stream that has ended is lost, in every order.
        """
        for first, said in (("finish", ()), ("fail", (b"data: e\n\n",))):
            self.open()
            getattr(self.stream, first)(*said)
            writes = list(self.wire.writes)
            self.stream.write(EVENT)
            self.stream.finish()
            self.stream.fail(EVENT)
            self.stream.keepWarm(PING, 5)
            self.assertEqual(self.wire.writes, writes)
            self.assertEqual(self.timers(), [])
            self.wire.leave()

    def test_http10(self) -> None:
        """
        C31: HTTP/1.0 gets plain bytes and the end of the connection.
        """
        self.open(data=post(version="HTTP/1.0"))
        self.finish()
        self.wire.read()
        head, _, body = self.wire.received.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertEqual((body, self.wire.how), (b"data: role\n\n", "closed"))

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.integers(1, 3 * SLICE), min_size=1, max_size=12),
        st.randoms(use_true_random=False),
        st.sampled_from([100, 4096, 70_000, 1 << 20]),
    )
    def test_everyByteInOrder(self, sizes: list[int], chance: random.Random, kernelSize: int) -> None:
        """
        I2, K8, K9: whatever is written, and however it is read, arrives once,
        in order, with a clean end.
        """
        self.open(kernelSize)
        sent = b"data: role\n\n"
        for number, size in enumerate(sizes):
            data = bytes([number % 256]) * size
            self.stream.write(data)
            sent += data
            if chance.random() < 0.5:
                self.wire.read(chance.randrange(200_000))
        self.finish()
        self.wire.read()
        self.assertEqual(self.taken(), (sent, True))
        self.wire.leave()
        self.wires.remove(self.wire)


class LeavingTests(StreamCase):
    """
    The client goes.
    """

    def test_toldOnceInTheSameTurn(self) -> None:
        """
        K1, K2: FIN, RST and half-close are all the client's end; the owner
        hears of it at once, once, and the work is cancelled after that.
        """
        for reason in (ConnectionDone(), ConnectionLost(), ConnectionAborted()):
            self.open()
            self.asked.onGone = self.assertNotCancelled
            self.wire.leave(reason)
            self.assertEqual(self.asked.gone, [End.CLIENT_GONE])
            self.assertTrue(self.asked.wasCancelled)
        self.assertEqual(self.ends(), ["cl-gone"] * 3)

    def assertNotCancelled(self) -> None:
        """
        The owner of the stream hears first.
        """
        self.assertFalse(self.asked.wasCancelled)

    def test_beforeTheFirstByte(self) -> None:
        """
        K1, K19: the same while the headers are held back.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.stream()
        wire.leave()
        self.assertEqual((asked.gone, self.ends()), ([End.CLIENT_GONE], ["cl-gone"]))

    def test_afterTheEnd(self) -> None:
        """
        K5: after the end nobody is told anything.
        """
        self.open()
        self.finish()
        self.wire.leave()
        self.assertEqual((self.asked.gone, self.ends()), ([], ["ok"]))

    def test_whileTheRestIsTaken(self) -> None:
        """
        K5: gone after the end was written but before it was taken: the owner
        is told nothing, the log says what happened.
        """
        self.blocked()
        self.stream.write(EVENT)
        self.finish()
        self.wire.leave()
        self.assertEqual((self.asked.gone, self.ends()), ([], ["cl-gone"]))

    def test_ownerMayAnswerTheNews(self) -> None:
        """
        An owner that ends its stream when it hears that nobody reads it does
        no harm.
        """
        self.open()
        self.asked.onGone = lambda: self.stream.fail(EVENT)
        self.wire.leave()
        self.assertEqual(self.ends(), ["cl-gone"])


class SlowClientTests(StreamCase):
    """
    The client reads slowly, or not at all.
    """

    def test_stillWithALittleQueued(self) -> None:
        """
        K7: no more than 64 KiB may wait as long as the turn lasts.
        """
        self.blocked()
        self.stream.write(b"z" * (STILL_BYTES - 8))
        self.assertEqual(self.stream.queued, STILL_BYTES)
        self.clock.advance(3600)
        self.wire.run()
        self.assertIsNone(self.wire.how)

    def stuck(self) -> None:
        """
        The client has been cut, once, and its owner told.
        """
        self.assertEqual(self.asked.gone, [End.CLIENT_STUCK])
        self.assertEqual(self.stream.queued, 0)
        self.stream.write(EVENT)
        self.assertEqual(self.stream.queued, 0)
        self.wire.run()
        self.assertEqual((self.wire.how, self.ends()), ("aborted", ["cl-stuck"]))
        self.assertEqual(self.asked.gone, [End.CLIENT_STUCK])
        self.assertTrue(self.asked.wasCancelled)

    def test_noProgress(self) -> None:
        """
        K7: more than 64 KiB and nothing taken for ten seconds.
        """
        self.blocked()
        self.stream.write(b"z" * (STILL_BYTES + 1))
        self.clock.advance(9.9)
        self.assertEqual(self.asked.gone, [])
        self.clock.advance(0.1)
        self.stuck()

    def test_flood(self) -> None:
        """
        K7: events go on coming while more than 256 KiB wait: one second.
        """
        self.blocked()
        while self.stream.queued <= QUEUE_BYTES:
            self.stream.write(EVENT)
        self.clock.advance(5)
        self.stream.write(EVENT)
        self.clock.advance(0.9)
        self.stream.write(EVENT)
        self.assertEqual(self.asked.gone, [])
        self.clock.advance(0.1)
        self.stuck()

    def test_oneLargeEventIsNoFlood(self) -> None:
        """
        K7, K9: the bound is tested before an event is added, so a delta of
        8 MiB gets through to a client that takes its time.
        """
        self.open(kernelSize=65536)
        large = b"data: " + b"d" * (8 << 20) + b"\n\n"
        self.stream.write(large)
        while self.stream.queued:
            self.clock.advance(0.5)
            self.wire.read(200_000)
        self.finish()
        self.wire.read()
        self.assertEqual(self.taken(), (b"data: role\n\n" + large, True))

    def test_healthyReaderOfABurst(self) -> None:
        """
        K9: a burst far over the bounds is no harm to a client that reads.
        """
        self.open()
        for _ in range(2000):
            self.stream.write(EVENT)
        self.assertGreater(self.stream.queued, QUEUE_BYTES)
        self.wire.read()
        self.assertEqual(self.stream.queued, 0)
        self.assertEqual(self.timers(), [])
        self.finish()
        self.wire.read()
        self.assertEqual(self.taken(), (b"data: role\n\n" + EVENT * 2000, True))

    def test_slowButSteady(self) -> None:
        """
        K8: each slice that is taken is progress and buys ten seconds more.
        """
        self.blocked()
        self.stream.write(b"z" * (4 * STILL_BYTES))
        for _ in range(12):
            self.clock.advance(8)
            self.wire.read(SLICE)
        self.assertEqual(self.asked.gone, [])
        self.finish()
        self.wire.read()
        self.assertEqual(self.taken()[1], True)

    def test_smallEventsAreJoined(self) -> None:
        """
        What waited is written in slices, not event by event.
        """
        self.blocked()
        for _ in range(50):
            self.stream.write(EVENT)
        before = len(self.wire.writes)
        self.wire.read()
        self.assertEqual(len(self.wire.writes), before + 1)

    def test_stuckAfterTheEnd(self) -> None:
        """
        K12: a complete answer that is not taken is cut after ten seconds,
        however little it is; its owner is told nothing any more.
        """
        self.blocked()
        self.stream.write(EVENT)
        self.finish()
        self.clock.advance(9.9)
        self.assertIsNone(self.wire.how)
        self.clock.advance(0.1)
        self.wire.run()
        self.assertEqual((self.wire.how, self.ends(), self.asked.gone), ("aborted", ["cl-stuck"], []))

    def test_stuckWithTheLastChunk(self) -> None:
        """
        K12: the same when nothing but the end of the stream waits.
        """
        self.blocked()
        self.finish()
        self.clock.advance(10)
        self.wire.run()
        self.assertEqual((self.wire.how, self.ends(), self.asked.gone), ("aborted", ["cl-stuck"], []))

    def test_stuckWithTheRestInTheTransport(self) -> None:
        """
        K12: the same when our own queue is empty already.
        """
        wire = self.connect(kernelSize=100)
        for _ in range(2):
            self.begin(wire).answer.callback(b"j" * (SLICE - 1000))
        self.assertEqual((self.ends(), wire.pauses), (["ok", "ok"], 1))
        self.clock.advance(10)
        wire.run()
        self.assertEqual(wire.how, "aborted")

    def test_stuckWithALargeBody(self) -> None:
        """
        K12: the same for a JSON body; a client that takes some is let be.
        """
        wire = self.connect(kernelSize=65536)
        self.begin(wire).answer.callback(b"j" * 1_000_000)
        for _ in range(5):
            wire.read(70_000)
            self.clock.advance(9)
            wire.run()
        self.assertIsNone(wire.how)
        self.clock.advance(2)
        wire.run()
        self.assertEqual((wire.how, self.ends()), ("aborted", ["cl-stuck"]))

    def test_stuckWithAnError(self) -> None:
        """
        K12: a failed stream whose client does not take the error event.
        """
        self.blocked()
        self.stream.write(EVENT)
        self.stream.fail(EVENT)
        self.clock.advance(10)
        self.wire.run()
        self.assertEqual((self.wire.how, self.asked.gone), ("aborted", []))

    def test_stuckWhileClosing(self) -> None:
        """
        K12: a connection that is being closed has ten seconds, too.
        """
        self.blocked()
        self.stream.fail(EVENT)
        self.wire.run()
        self.clock.advance(10)
        self.wire.run()
        self.assertEqual(self.wire.how, "aborted")

    def test_largeBodyIsTaken(self) -> None:
        """
        A large JSON body leaves slice by slice and complete.
        """
        wire = self.connect(kernelSize=10_000)
        self.begin(wire).answer.callback(b"j" * 1_000_000)
        wire.send(b"")
        (answer,) = answersIn(wire.read())
        self.assertEqual(answer.body, b"j" * 1_000_000)
        self.assertLess(max(map(len, wire.writes)), SLICE + 1000)
        self.assertEqual(self.ends(), ["ok"])

    def test_stuckClientThatFloods(self) -> None:
        """
        K10: what a client sends while its answer waits for it is not kept
        beyond 16 KiB: it is cut at once.
        """
        self.blocked()
        self.stream.write(b"z" * (STILL_BYTES + 1))
        channel = self.asked.request.channel
        for _ in range(100):
            self.wire.send(b"a" * 4096)
        self.assertLessEqual(len(channel._early), EARLY_BYTES + 4096)
        self.wire.run()
        self.assertEqual((self.wire.how, self.asked.gone), ("aborted", [End.CLIENT_GONE]))


class KeepAliveTests(StreamCase):
    """
    Silence is broken now and then.
    """

    def pings(self) -> int:
        """
        How many pings were sent so far.
        """
        self.wire.read()
        return self.taken()[0].count(PING)

    def test_afterSilence(self) -> None:
        """
        K13: a ping after each interval without data; data puts it off.
        """
        self.open()
        self.stream.keepWarm(PING, 15)
        self.clock.advance(14)
        self.stream.write(EVENT)
        self.clock.advance(14.9)
        self.assertEqual(self.pings(), 0)
        self.clock.advance(0.1)
        self.assertEqual(self.pings(), 1)
        self.clock.advance(15)
        self.clock.advance(15)
        self.assertEqual(self.pings(), 3)
        self.finish()
        self.clock.advance(100)
        self.wire.read()
        self.assertTrue(self.taken()[1])

    def test_neverFirst(self) -> None:
        """
        K13: not before the first event.
        """
        wire = self.connect()
        asked = self.begin(wire)
        stream = asked.stream()
        stream.keepWarm(PING, 15)
        self.clock.advance(60)
        self.assertEqual(wire.writes, [])
        stream.write(EVENT)
        self.clock.advance(15)
        self.assertEqual(len(wire.writes), 2)

    def test_notToAClientThatIsBehind(self) -> None:
        """
        Pings do not pile up.
        """
        self.blocked()
        self.stream.keepWarm(PING, 15)
        self.stream.write(EVENT)
        queued = self.stream.queued
        for _ in range(10):
            self.clock.advance(15)
        self.assertEqual(self.stream.queued, queued)

    def test_wallClockStep(self) -> None:
        """
        V8: a step of the wall clock makes no client stuck and pings nobody.
        """
        self.blocked()
        self.stream.keepWarm(PING, 15)
        self.stream.write(b"z" * (STILL_BYTES + 1))
        self.clock.step(7200)
        self.assertEqual(self.asked.gone, [])

    def test_interval(self) -> None:
        """
        As set, or a third of the read timeout that the client announces, but
        never more than one a second; nonsense is ignored.
        """
        for header, expected in (
            ("", 15),
            ("600", 15),
            ("30", 10),
            ("30.0", 10),
            ("0.5", 1),
            ("0", 15),
            ("-9", 15),
            ("nan", 15),
            ("inf", 15),
            ("None", 15),
        ):
            data = post("/v1/chat/completions", b"{}", f"x-stainless-read-timeout: {header}")
            asked = self.begin(self.connect(), data)
            self.assertEqual(keepAliveInterval(asked.request, 15), expected, header)

    def test_manyHeldStreams(self) -> None:
        """
        K16: a thousand silent streams have one timer, and no more entries in
        its heap however much they write.
        """
        streams = []
        for number in range(1000):
            self.open()
            self.asked.answer.addErrback(lambda _: None)
            self.stream.keepWarm(PING, 15)
            streams.append(self.stream)
            if number % 100 == 99:
                self.clock.advance(0.1)
        for stream in streams:
            stream.write(b"data: 1\n\n")
        before = len(self.site.deadlines)
        self.assertLessEqual(before, 2000)
        for stream in streams:
            for _ in range(10):
                stream.write(b"data: 1\n\n")
        self.assertEqual((len(self.site.deadlines), self.timers()), (before, []))

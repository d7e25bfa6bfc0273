"""
A state machine against L{openai_server.web.sendqueue}: whatever is sent, and
however its client reads.
"""

from __future__ import annotations

from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openai_server.web.sendqueue import (
    QUEUE_BYTES,
    QUEUE_SECONDS,
    SLICE,
    STILL_BYTES,
    STILL_SECONDS,
    SendQueue,
)
from tests.support import SyncCase, TestClock

#: Seconds by which a deadline may come late.
_LATE = 0.01


class Wire:
    """
    A transport and its socket, as L{twisted.internet.abstract.FileDescriptor}
    runs them: the socket has a buffer of fixed size, the transport holds the
    rest, pauses a push producer that gives it more than C{bufferSize}, and
    asks for more only when it holds nothing.

    @ivar taken: bytes that the socket has taken.
    @ivar held: bytes that the transport holds.
    """

    bufferSize = SLICE - 1

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""
        self.held = b""
        self._producer: Any = None
        self._isPush = False
        self._isPaused = False

    # The transport.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer, self._isPush = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        self.held += data
        if self._isPush and len(self.held) > self.bufferSize:
            self._isPaused = True
            self._producer.pauseProducing()

    def turn(self) -> None:
        """
        Turn the reactor once.
        """
        if not self.held:
            return
        moved, self.held = self.held[: self.room], self.held[self.room :]
        self.taken += moved
        self.room -= len(moved)
        if not self.held and (self._isPaused or not self._isPush):
            self._isPaused = False
            self._producer.resumeProducing()

    # The socket.

    def send(self, data: bytes) -> int:
        moved = data[: self.room]
        if not moved:
            raise BlockingIOError
        self.taken += moved
        self.room -= len(moved)
        return len(moved)


class SendQueueMachine(RuleBasedStateMachine):
    """
    One connection, whose answers follow one another.
    """

    @initialize(hasSocket=st.booleans(), room=st.sampled_from([0, 0, 100, 10 * SLICE]))
    def connect(self, hasSocket: bool, room: int) -> None:
        """
        A client has come.
        """
        self.clock = TestClock()
        self.wire = Wire(room)
        handle = cast("Any", self.wire) if hasSocket else None
        self.queue = SendQueue(self.wire, handle, self.clock, self.stuck)
        self.sent = b""
        self.isStuck = False
        self.isEnding = False
        # When the queue gave bytes away last, and since when it must do so.
        self.progressAt = 0.0
        self.owedSince: float | None = None
        self.fullSince: float | None = None
        self.restEnd = 0

    def stuck(self) -> None:
        """
        The client is given up: rightly, once, and for good.
        """
        assert not self.isStuck
        self.isStuck = True
        now = self.clock.seconds()
        isStill = now - self.progressAt >= STILL_SECONDS - _LATE
        isFull = self.fullSince is not None and now - self.fullSince >= QUEUE_SECONDS - _LATE
        assert isStill or isFull

    @precondition(lambda self: not (self.isEnding or self.isStuck))
    @rule(size=st.one_of(st.integers(1, 200), st.integers(1, 6 * SLICE)))
    def send(self, size: int) -> None:
        """
        A piece of an answer.
        """
        data = bytes([len(self.sent) % 251]) * size
        self.sent += data
        self.queue.send(data)
        self.look()

    @precondition(lambda self: not (self.isEnding or self.isStuck))
    @rule()
    def end(self) -> None:
        """
        The answer is complete.
        """
        self.isEnding = True
        self.queue.whenSent(self.ended)
        self.look()

    def ended(self) -> None:
        """
        The transport has all of it.
        """
        assert self.isEnding and not self.isStuck and self.queue.queued == 0
        self.isEnding = False
        self.restEnd = len(self.sent) if self.queue.isPaused else 0
        self.queue.watchRest()

    @rule(size=st.one_of(st.integers(1, 200), st.integers(1, 4 * SLICE)))
    def read(self, size: int) -> None:
        """
        The client reads.
        """
        self.wire.room += size
        self.wire.turn()
        self.look()

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        """
        Time passes.
        """
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)

    def look(self) -> None:
        """
        Note since when something is owed.
        """
        now = self.clock.seconds()
        given = len(self.wire.taken) + len(self.wire.held)
        if given != getattr(self, "given", 0):
            self.given = given
            self.progressAt = now
        hasRest = len(self.wire.taken) < self.restEnd
        owes = self.isEnding or hasRest or self.queue.queued > STILL_BYTES
        self.owedSince = (self.owedSince if self.owedSince is not None else now) if owes else None
        isFull = self.queue.queued > QUEUE_BYTES
        self.fullSince = (self.fullSince if self.fullSince is not None else now) if isFull else None

    @invariant()
    def everyByteInOrder(self) -> None:
        """
        What the transport got is what was sent, and the rest waits.
        """
        given = self.wire.taken + self.wire.held
        assert self.sent.startswith(given)
        assert self.queue.queued == (0 if self.isStuck else len(self.sent) - len(given))

    @invariant()
    def transportHoldsLittle(self) -> None:
        """
        Not more than a slice beyond what it held when it took more.
        """
        assert len(self.wire.held) <= Wire.bufferSize + SLICE

    @invariant()
    def stillClientIsGivenUp(self) -> None:
        """
        Nobody waits for a client for ever; nor does a timer for nothing.
        """
        if self.isStuck:
            assert self.clock.getDelayedCalls() == []
        elif self.owedSince is not None:
            since = max(self.owedSince, self.progressAt)
            assert self.clock.seconds() - since < STILL_SECONDS + _LATE
        elif not self.sent or not self.wire.held:
            assert self.clock.getDelayedCalls() == []

    def teardown(self) -> None:
        """
        A client that reads all gets all; nothing is left of it.
        """
        while not self.isStuck and (self.wire.held or self.queue.queued):
            self.read(SLICE)
        if not self.isStuck:
            assert self.wire.taken == self.sent and not self.isEnding
        self.queue.clear()
        assert self.clock.getDelayedCalls() == []


class SendQueueTests(SyncCase):
    """
    The machine.
    """

    def test_anyClient(self) -> None:
        """
        I2, K8, K9: bytes arrive once and in order, what waits is bounded, a
        client that is still is given up, and no other.
        """
        case = SendQueueMachine.TestCase()
        case.settings = settings(deadline=None, max_examples=150, stateful_step_count=20)
        case.runTest()

# -*- test-case-name: tests.daemon.test_protocol -*-
"""
One connection to the daemon: lines of bytes on one side, tones on the other.

The daemon never waits for a slow reader: it drops what does not fit into its
queue. So nobody behind this can pause the transport's reading, and what one
read brought is decoded and handed on at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from openai_server.clock import Deadline
from openai_server.daemon.backlog import Backlog
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.outlet import socketOf
from openai_server.wire.tones import Breath, FromBee, FromDaemon, PerfMark, lineFromTone, tonesFromLines

#: A deadline that fires this many seconds late was held up by the loop itself,
#: and what has come meanwhile is still unread.
_LATE: Final = 1.0

#: Seconds between two log lines about tones that cannot be read.
_QUIET: Final = 60.0


class Receiver(Protocol):
    """
    Who is behind the connection.
    """

    def opening(self, protocol: ThrumProtocol) -> Iterable[FromBee]:
        """
        The tones that open a connection, the hello first.
        """

    def connectionReady(self, protocol: ThrumProtocol) -> None:
        """
        The daemon has breathed: prompts can be asked.
        """

    def tonesReceived(self, tones: list[FromDaemon]) -> None:
        """
        What one read brought, in order. An exception is logged and concerns
        nothing else.
        """

    def connectionGone(self, protocol: ThrumProtocol, why: str) -> None:
        """
        The connection is no more, and this object is done.

        @param why: a few words for the operator.
        """


class ThrumProtocol(LineReceiver):
    """
    Thrum on one connection.

    It opens with its receiver's hello and is ready with the daemon's first
    breath. From then on it sends a heartbeat now and then; a daemon that says
    nothing at all in answer is taken for dead and the connection is closed.

    @ivar isReady: the hello is written, a breath was seen, and the connection
        stands.
    @ivar backlog: what waits to be sent, from the connection on.
    @ivar badTones: counts of lines that were dropped, by reason.
    """

    delimiter = b"\n"
    MAX_LENGTH = 32 * 1024 * 1024

    _log = Logger()

    def __init__(
        self,
        *,
        receiver: Receiver,
        clock: IReactorTime,
        timeouts: WaitLimits,
        newRid: Callable[[], str],
        badTones: Counter[str],
    ) -> None:
        self.isReady = False
        self.badTones = badTones
        self._receiver = receiver
        self._clock = clock
        self._timeouts = timeouts
        self._newRid = newRid
        self._watch: Deadline | None = None
        self._heard = False
        self._whyGone: str | None = None
        self._held: list[bytes] = []
        self._heldSize = 0
        self._skipping = False
        self._quietUntil = 0.0

    # The connection's life.

    def connectionMade(self) -> None:
        """
        Say hello, and give the daemon its time to breathe.
        """
        transport: Any = self.transport
        self._out = transport
        self.backlog = Backlog(transport, socketOf(transport))
        self._watch = Deadline(self._clock, self._timeouts.handshake, self._breathless)
        self.sendTones(self._receiver.opening(self))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Forget the half line, which is never joined with the next connection.
        """
        self.isReady = False
        self._held.clear()
        if self._watch is not None:
            self._watch.cancel()
        self._receiver.connectionGone(self, self._whyGone or _shortReason(reason))

    def close(self) -> None:
        """
        Close when all that was written is sent.
        """
        self.isReady = False
        self.backlog.detach()
        self._out.loseConnection()

    def abort(self, why: str) -> None:
        """
        Close at once: what is unsent stays so.

        @param why: a few words for the operator.
        """
        self.isReady = False
        self._whyGone = why
        self._out.abortConnection()

    def _breathless(self) -> None:
        self.abort(f"no breath from the daemon within {self._timeouts.handshake:g} s")

    def _beat(self) -> None:
        self._heard = False
        self.sendTones([PerfMark(rid=self._newRid())])
        self._watch = Deadline(self._clock, self._timeouts.echo, self._listen)

    def _listen(self) -> None:
        # Under a flood the echo itself may be dropped: any byte is an answer.
        assert self._watch is not None
        if self._heard:
            rest = max(0.0, self._timeouts.heartbeat - self._timeouts.echo)
            self._watch = Deadline(self._clock, rest, self._beat)
        elif self._clock.seconds() - self._watch.due > _LATE:
            self._watch = Deadline(self._clock, _LATE, self._listen)
        else:
            self.abort(f"no answer to a heartbeat within {self._timeouts.echo:g} s")

    # Outwards.

    def sendTones(self, tones: Iterable[FromBee]) -> None:
        """
        Send these in one write.
        """
        self.sendLines(b"".join(map(lineFromTone, tones)))

    def sendLine(self, line: bytes) -> None:
        """
        Send one line.
        """
        self.sendLines(line + self.delimiter)

    def sendLines(self, lines: bytes) -> None:
        """
        Send whole lines, newlines included, in one write.
        """
        self.backlog.send(lines)

    # Inwards.

    def dataReceived(self, data: bytes) -> None:
        """
        Hand on all lines that this read completes, at once.
        """
        self._heard = True
        cut = data.rfind(b"\n") + 1
        if cut:
            rest = data[cut:]
            lines = data[:cut]
            if self._skipping or self._held:
                lines = self._completed(lines)
            if len(lines) > self.MAX_LENGTH:
                lines = b"".join(self._notTooLong(lines))
            self._linesReceived(lines)
            data = rest
        if data:
            self._hold(data)

    def lineReceived(self, line: bytes) -> None:
        """
        One line, without its newline.
        """
        self._linesReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """
        A line is longer than C{MAX_LENGTH}: it is skipped, and the connection
        stays.
        """
        self.badTones["too-long"] += 1
        self._complain()

    def _hold(self, data: bytes) -> None:
        if self._skipping:
            return
        self._held.append(data)
        self._heldSize += len(data)
        if self._heldSize > self.MAX_LENGTH:
            self._skipping = True
            self.lineLengthExceeded(self._release())

    def _release(self) -> bytes:
        held = b"".join(self._held)
        self._held.clear()
        self._heldSize = 0
        return held

    def _completed(self, lines: bytes) -> bytes:
        if self._skipping:
            self._skipping = False
            return lines[lines.index(b"\n") + 1 :]
        return self._release() + lines

    def _notTooLong(self, lines: bytes) -> Iterable[bytes]:
        for line in lines.split(b"\n"):
            if len(line) > self.MAX_LENGTH:
                self.lineLengthExceeded(line)
            else:
                yield line + b"\n"

    def _linesReceived(self, lines: bytes) -> None:
        dropped: dict[str, int] = {}
        tones = tonesFromLines(lines, dropped)
        if dropped:
            self.badTones.update(dropped)
            self._complain()
        if not self.isReady:
            self._seekBreath(tones)
        try:
            self._receiver.tonesReceived(tones)
        except Exception:
            # It must not reach the transport, which would drop the connection.
            self._log.failure("tones could not be handed on")

    def _seekBreath(self, tones: list[FromDaemon]) -> None:
        if self._whyGone is None and self._watch is not None and any(type(tone) is Breath for tone in tones):
            self._watch.cancel()
            self._watch = Deadline(self._clock, self._timeouts.heartbeat, self._beat)
            self.isReady = True
            self._receiver.connectionReady(self)

    def _complain(self) -> None:
        now = self._clock.seconds()
        if now >= self._quietUntil:
            self._quietUntil = now + _QUIET
            self._log.warn("dropped lines of the daemon's, so far: {bad}", bad=dict(self.badTones))


def _shortReason(reason: Failure) -> str:
    return f"connection lost: {reason.value.__class__.__name__}"

# -*- test-case-name: tests.web.test_websocket -*-
"""
WebSocket connections: messages to requests, events to frames, by wsproto, with
the limits that HTTP requests have.

A connection is made from an HTTP connection whose handshake was answered. It
is one account's, which the handshake proved. Its requests are answered in
L{Lanes<openai_server.web.lanes.Lanes>}; those that come ahead wait.

How it ends::

    they close                      we answer with their code
    not the WebSocket protocol      1002, or 1007 for text that is no UTF-8
    a message of bytes              1003
    a message beyond the limit      an error event, and 1009
    too slow, or in too many pieces an error event, and 1008
    too much sent ahead             1008
    no room for what is received    an error event, and 1013
    the server stops                1001, behind the answers that go on
    L{LONGEST} seconds old          1001, behind those and an error event
    the client does not read        cut

A client that closes, or is closed because of what it did, leaves its requests.

No answer to our pings is waited for: some clients read nothing while they run
a tool, and one that is gone does not acknowledge the pings, which the system
notices. Extensions are not used: what is compressed has no limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from zope.interface import implementer

from openai_server.api.problem import errorBody
from openai_server.api.responses.websocket import errorEventFrom
from openai_server.deadlines import Alarm, Deadlines
from openai_server.errors import APIError
from openai_server.web.body import Body
from openai_server.web.bodybudget import BodyBudget, BodyShare
from openai_server.web.httprequest import HTTPRequest
from openai_server.web.interfaces import Owner
from openai_server.web.lanememory import LaneMemory
from openai_server.web.lanes import Lanes
from openai_server.web.message import MessageRequest
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.request import OpenResponses
from openai_server.web.sendqueue import STILL_SECONDS, SendQueue

#: Seconds between two pings.
PING_SECONDS: Final = 20.0
#: Seconds for which a connection takes requests, as at OpenAI.
LONGEST: Final = 3600.0
#: Seconds without progress of a message, and for a whole one.
PROGRESS_SECONDS: Final = 30.0
MESSAGE_SECONDS: Final = 300.0
#: Seconds, and bytes, for which a client may go on sending that we close.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
#: Bytes that are read at a time: the frames behind one that ends in them are
#: moved once for each.
_SLICE: Final = 8 * 1024

#: How a connection is closed whose message was refused while it came.
_CODES: Final = {
    "request_too_large": CloseReason.MESSAGE_TOO_BIG,
    "bodies_over_budget": CloseReason.TRY_AGAIN_LATER,
}


class SocketSite(OpenResponses, Protocol):
    """
    What the connections of a site have in common.

    @ivar deadlines: when they are looked at.
    @ivar bodyBudget: what all bodies and messages together may hold while they
        come and wait.
    """

    deadlines: Deadlines
    bodyBudget: BodyBudget

    def channelOpened(self, channel: Any) -> None:
        """
        There is one connection more.
        """

    def channelClosed(self, channel: Any) -> None:
        """
        There is one connection less.
        """

    def process(self, request: MessageRequest) -> None:
        """
        Answer a request that was read.
        """


class Carrier(Protocol):
    """
    The HTTP connection that carries it.
    """

    transport: Any
    queue: SendQueue

    def isSecure(self) -> bool: ...

    def getHost(self) -> IAddress: ...

    def getPeer(self) -> IAddress: ...


@implementer(IHalfCloseableProtocol)
class WebSocketConnection(TwistedProtocol):
    """
    One WebSocket connection. To its requests it is their
    L{Channel<openai_server.web.request.Channel>}.

    @ivar persistent: whether it stays open behind the answers that go on.
    @ivar queue: the way to the client.
    @ivar alarm: waits for a message that comes in pieces, and then for the end.
    """

    transport: Any

    def __init__(
        self,
        site: SocketSite,
        carrier: Carrier,
        handshake: HTTPRequest,
        answer: Callable[[MessageRequest], None],
        memory: LaneMemory,
        *,
        keeps: bool,
    ) -> None:
        """
        @param answer: answers a request.
        @param memory: what is known of its responses that are not stored.
        @param keeps: whether responses are kept that do not say otherwise.
        """
        self.site = site
        self.persistent = True
        self.queue = carrier.queue
        self.alarm = Alarm(site.deadlines)
        self.transport = carrier.transport
        self._carrier = carrier
        self._handshake = handshake
        self._answer = answer
        self._memory = memory
        self._lanes = Lanes(site.process, memory, keeps=keeps)
        self._frames = Connection(ConnectionType.SERVER)
        self._pings = Alarm(site.deadlines)
        self._age = Alarm(site.deadlines)
        self._isOld = False
        self._hasToldSo = False
        self._isClosing = False
        self._unread = 0
        self._ping: bytes | None = None
        self._body: Body | None = None
        self._share = site.bodyBudget.share()
        self._bodyBegan = 0.0
        site.channelOpened(self)
        self._pings.begin(PING_SECONDS, self._sendPing)
        self._age.begin(LONGEST, self._becomeOld)

    # What the client sends.

    def dataReceived(self, data: bytes) -> None:
        """
        Read frames; of a client that is being closed only its own close.
        """
        if self._isClosing:
            self._unread += len(data)
            if self._unread > LINGER_BYTES:
                self.abort()
                return
        for at in range(0, len(data), _SLICE):
            if self._frames.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                self._frames.receive_data(data[at : at + _SLICE])
                for event in self._frames.events():
                    self._take(event)
        ping, self._ping = self._ping, None
        if ping is not None:
            # Of several the last is enough, as the protocol has it.
            self._send(Ping(payload=ping).response())

    def _take(self, event: Event) -> None:
        if isinstance(event, CloseConnection):
            self._closed(event)
        elif self._isClosing:
            return
        elif isinstance(event, TextMessage):
            self._textReceived(event.data.encode(), event.message_finished)
        elif isinstance(event, BytesMessage):
            self.close(CloseReason.UNSUPPORTED_DATA, "Messages must be text.")
        elif isinstance(event, Ping):
            self._ping = bytes(event.payload)

    def _textReceived(self, data: bytes, isWhole: bool) -> None:
        now = self.site.clock.seconds()
        if self._body is None:
            self._body = Body(self.site.bodyLimit, self._share)
            self._bodyBegan = now
        try:
            self._body.write(data)
        except APIError as error:
            self._refuse(error)
            return
        if isWhole:
            message, self._body = self._body.complete(), None
            share, self._share = self._share, self.site.bodyBudget.share()
            self.alarm.cancel()
            self._messageReceived(message, share)
        else:
            left = self._bodyBegan + MESSAGE_SECONDS - now
            self.alarm.begin(min(PROGRESS_SECONDS, max(left, 0.0)), self._messageIsLate)

    def _messageIsLate(self) -> None:
        self._refuse(APIError("request_timeout", "The message did not come in time."))

    def _newRequest(self) -> MessageRequest:
        return MessageRequest(self.site, self, self._handshake, self._memory, self._frame)

    def _refuse(self, error: APIError) -> None:
        """
        Say what is wrong with a message that has not come to its end, and read
        no more.
        """
        self._isClosing = True
        self._lanes.refuse(self._newRequest(), error)
        self._sayClose(_CODES.get(error.name, CloseReason.POLICY_VIOLATION), error.message)

    def _messageReceived(self, message: bytes, share: BodyShare) -> None:
        if not self._lanes.hasRoomFor(len(message), self.site.bodyLimit):
            share.release()
            self.close(CloseReason.POLICY_VIOLATION, "Too much was sent ahead.")
            return
        request = self._newRequest()
        request.size = len(message)
        request.answeredBy = self._answer
        try:
            if self._isOld:
                self._hasToldSo = True
                raise _tooOld()
            self._lanes.read(request, message)
        except APIError as error:
            request.refusal = error
        except Exception:
            request.refusal = errorFromMistake(Failure(), request.requestId, request.route)
        self._lanes.add(request, share)
        self._lookIfIdle()

    def requestDone(self) -> None:
        """
        The answer to a request is written.
        """
        self._lanes.done()
        if self._lanes.isEmpty:
            self.queue.watchRest()
        self._lookIfIdle()

    def _becomeOld(self) -> None:
        self._isOld = True
        self._lookIfIdle()

    def _lookIfIdle(self) -> None:
        """
        Close behind the last answer, if it is time for that.
        """
        if self._isClosing or not self._lanes.isEmpty:
            return
        if self._isOld and not self._hasToldSo:
            error = _tooOld()
            self.queue.send(self._frame(errorEventFrom(errorBody(error), error.kind.status, {})))
        if self._isOld or not self.persistent:
            self.close(CloseReason.GOING_AWAY)

    # What the client gets.

    def _frame(self, event: bytes) -> bytes:
        return self._framed(TextMessage(data=event.decode()))

    def _framed(self, event: Event) -> bytes:
        isOpen = self._frames.state is ConnectionState.OPEN
        return bytes(self._frames.send(event)) if isOpen else b""

    def _send(self, event: Event) -> None:
        self.queue.send(self._framed(event))

    def _sendPing(self) -> None:
        # Nothing to a client that is behind anyway.
        if not self.queue.queued:
            self._send(Ping())
        self._pings.begin(PING_SECONDS, self._sendPing)

    @property
    def isAnswering(self) -> bool:
        """
        Whether there are requests that are not answered.
        """
        return not self._lanes.isEmpty

    @property
    def isIdle(self) -> bool:
        """
        Whether it is open and nothing was read that is not answered.
        """
        return not (self.isAnswering or self._body is not None or self._isClosing)

    def answerLast(self) -> None:
        """
        Close behind the answers that go on.
        """
        self.persistent = False
        if self._body is None:
            self._lookIfIdle()

    def awaitDelivery(self, owner: Owner) -> None:
        """
        Nobody tells more of an answer than that the connection has room for
        all of it.
        """
        owner.delivered(not self.queue.isPaused)

    # Closing.

    def stuck(self) -> None:
        """
        The client reads nothing.
        """
        self._lanes.stuck()
        self.abort()

    def _closed(self, event: CloseConnection) -> None:
        # The client's own word, or that it does not speak the protocol; which
        # does not matter any more of one that is being closed.
        state = self._frames.state
        if state is ConnectionState.OPEN:
            self.close(CloseReason(event.code), event.reason or "")
        elif state is ConnectionState.REMOTE_CLOSING:
            self._isClosing = True
            self.queue.send(bytes(self._frames.send(event.response())))
            self._leave()
            self._end()
        elif state is ConnectionState.CLOSED:
            self._end()

    def close(self, code: CloseReason, reason: str = "") -> None:
        """
        Close, and read on for a moment: closing at once would reset the
        connection, and take our last words with it.
        """
        if not self._isClosing:
            self._isClosing = True
            self._sayClose(code, reason)

    def _sayClose(self, code: CloseReason, reason: str) -> None:
        said = self._frames.send(CloseConnection(code=code, reason=reason))
        self.queue.send(bytes(said))
        self._leave()
        self.alarm.begin(LINGER_SECONDS, self._end)

    def loseConnection(self) -> None:
        """
        Close when everything is sent.
        """
        self.close(CloseReason.GOING_AWAY)

    def abort(self) -> None:
        """
        Cut the connection, whatever is unsent.
        """
        self._isClosing = True
        self.transport.abortConnection()

    def _leave(self, reason: Failure = connectionDone) -> None:
        self._pings.cancel()
        self._age.cancel()
        self._share.release()
        self._body = None
        self._lanes.leave(reason)

    def _end(self) -> None:
        # Everything that can be said is said.
        self.alarm.begin(STILL_SECONDS, self.abort)
        self.queue.whenSent(self._endTransport)

    def _endTransport(self) -> None:
        self.queue.detach()
        self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        """
        The client sends nothing more, not even a close.
        """
        if self._isClosing:
            self.transport.loseConnection()
        else:
            self.abort()

    def writeConnectionLost(self) -> None:
        """
        Our side is closed.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        self._isClosing = True
        for alarm in (self.alarm, self._pings, self._age):
            alarm.isOver = True
            alarm.cancel()
        self.queue.clear()
        self._leave(reason)
        self.site.channelClosed(self)

    # The connection, for requests.

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return self._carrier.isSecure()

    def getHost(self) -> IAddress:
        """
        Return the address that the connection came in on.
        """
        return self._carrier.getHost()

    def getPeer(self) -> IAddress:
        """
        Return the address of the connection's other end.
        """
        return self._carrier.getPeer()


def _tooOld() -> APIError:
    said = f"This WebSocket is open for {LONGEST / 60:.0f} minutes. Open another one to go on."
    return APIError("websocket_connection_limit_reached", said)

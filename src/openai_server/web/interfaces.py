# -*- test-case-name: tests.web -*-
"""
What the parts of this room know of each other.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure

from openai_server.accounts.account import Account
from openai_server.api.output import Usage
from openai_server.errors import APIError, End


class Owner(Protocol):
    """
    Who answers a request.
    """

    def clientGone(self, end: End) -> None:
        """
        The client is gone, or was cut, before its answer was complete.
        """

    def delivered(self, inGoodOrder: bool) -> None:
        """
        The answer was complete, and the client has it, or has left before it
        had all of it.
        """


class StreamWords(Protocol):
    """
    What a stream says beside what is written to it: a
    L{Renderer<openai_server.api.dialect.Renderer>} does.

    @ivar streamType: its content type.
    @ivar errorIsEnd: whether a stream whose last words are an error is
        complete; if not, it is cut behind them.
    """

    @property
    def streamType(self) -> bytes: ...

    @property
    def errorIsEnd(self) -> bool: ...

    def keepAlive(self) -> bytes:
        """
        Return what is said after a silence; empty for nothing.
        """

    def error(self, error: APIError) -> bytes:
        """
        Return the last words of a stream that cannot be completed.
        """


class Head(Protocol):
    """
    A request by its head, as admission judges it.

    @ivar method: such as C{GET}.
    @ivar path: what stands before C{?} in the target, as it came.
    @ivar query: what stands behind it; never logged.
    """

    method: bytes
    path: bytes
    query: bytes

    @property
    def clock(self) -> IReactorTime: ...

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return the last header of this name.

        @param name: in lower case.
        """

    def valuesOf(self, name: bytes) -> list[bytes]:
        """
        Return all headers of this name.

        @param name: in lower case.
        """

    def setHeader(self, name: bytes, value: bytes) -> None:
        """
        Say a header of the answer.

        @param name: in lower case.
        """

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """

    def getHost(self) -> IAddress:
        """
        Return the address that the connection came in on.
        """

    def getClientAddress(self) -> IAddress:
        """
        Return the address of the connection's other end.
        """


class Request(Head, Protocol):
    """
    One HTTP request, as the routes and what answers them see it. It has one
    answer: L{answer}, or L{begin} with L{write} and L{complete}, or L{fail}.

    @ivar route: the template of the route that answers it.
    @ivar model: the model that was asked for, for the log.
    @ivar session: what its session is to the client, for the log.
    @ivar retry: how often the client had sent it before, for the log.
    @ivar account: whose it is, once it was admitted.
    @ivar mayHaveRun: whether a worker may have begun to act for it, so that it
        must not simply be asked again.
    @ivar firstOutputAt: when there was output for it first, in seconds of the
        clock; None as long as there was none.
    @ivar usage: what it has cost, as its client is told.
    @ivar owner: who answers it, and is told of the client's leaving.
    @ivar hasFailed: whether it has been ended with an error.
    @ivar startedWriting: whether a byte of the answer was sent.
    """

    route: str
    model: str | None
    session: str | None
    retry: int
    account: Account | None
    mayHaveRun: bool
    firstOutputAt: float | None
    usage: Usage | None
    owner: Owner | None
    hasFailed: bool
    startedWriting: bool

    def takeBody(self) -> bytes:
        """
        Return the whole body, decoded. It can be taken once: an answer may
        take an hour, and the body is not kept for it.
        """

    @property
    def isOver(self) -> bool:
        """
        Whether nothing more can be answered: all is, or the client is gone.
        """

    def doing(self, work: Deferred[Any]) -> None:
        """
        Note what makes the answer; the client's leaving cancels it.
        """

    def whenOver(self) -> Deferred[None]:
        """
        Fires when L{isOver} is true. Never fails.
        """

    def answer(self, body: bytes, status: int = 200, contentType: bytes = ...) -> None:
        """
        Answer with a whole body. A large one leaves as the client reads it; a
        client that reads nothing of it for ten seconds is cut.
        """

    def begin(self, words: StreamWords, interval: float) -> None:
        """
        Decide for a stream; the head leaves with its first bytes.

        @param interval: for how many seconds it may be silent before it says
            something; 0 for ever.
        """

    def write(self, data: bytes) -> None:
        """
        Send some of a stream, now if that is possible.
        """

    def complete(self, data: bytes) -> None:
        """
        Send the last of a stream, and end it well.
        """

    def fail(self, error: APIError) -> None:
        """
        End this request with an error, in the way that is still open: as an
        answer before the first byte, in the stream's own words after it. The
        first failure counts; an answer that is complete stays as it is.
        """

    def abort(self) -> None:
        """
        Cut the connection.
        """

    def processingFailed(self, reason: Failure) -> object:
        """
        An exception that nobody expected: logged here, once; its text stays
        inside.
        """

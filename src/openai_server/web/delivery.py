# -*- test-case-name: tests.web.test_streaming -*-
"""
One client's share of a response: the headers, the bytes, the leaving.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, cast

from twisted.python.failure import Failure

from openai_server.api.output import Failed, Finished, Output, Usage
from openai_server.api.renderer import Renderer
from openai_server.errors import APIError, End
from openai_server.web.headers import isFromPage
from openai_server.web.interfaces import Request

#: How a client is lost who may come back.
_LEFT: Final = frozenset({End.CLIENT_GONE, End.CLIENT_STUCK})
#: What a client is given last, and is no output.
_ENDS: Final = (Finished, Failed)


class Delivered(Protocol):
    """
    The response that a client is given.
    """

    output: list[Output] | None
    verdict: bytes | None
    isAbandoned: bool

    def usage(self) -> Usage:
        """
        Return what it has cost so far.
        """

    def notDelivered(self) -> None:
        """
        It cannot be given to a client: no model waits for that one.
        """

    def clientGone(self, delivery: Delivery, mayReturn: bool) -> None:
        """
        A client reads it no more.

        @param mayReturn: whether the server will be there if it comes back.
        """

    def delivered(self, inGoodOrder: bool) -> None:
        """
        A client to whom all was sent is known to have it, or to have left
        before it had all.
        """


class Delivery:
    """
    One client's share of a response; the owner of its request.

    @ivar request: the client's.
    @ivar isStreamed: whether it is given in pieces.
    """

    __slots__ = (
        "_hasBegun",
        "_isFromPage",
        "_keepAliveInterval",
        "_renderer",
        "_response",
        "isStreamed",
        "request",
    )

    def __init__(
        self,
        response: Delivered,
        request: Request,
        renderer: Renderer,
        isStreamed: bool,
        keepAliveInterval: float,
    ) -> None:
        """
        @param keepAliveInterval: seconds of silence after which a stream says
            something.
        """
        self._response = response
        self._renderer = renderer
        self.isStreamed = isStreamed
        self._keepAliveInterval = keepAliveInterval
        self._hasBegun = False
        self._isFromPage = isFromPage(request)
        self.request = request
        request.owner = self

    def give(self, events: Sequence[Output]) -> None:
        """
        Deliver some more of the answer.
        """
        last = events[-1]
        kind = type(last)
        request = self.request
        if request.firstOutputAt is None and (len(events) > 1 or kind not in _ENDS):
            request.firstOutputAt = request.clock.seconds()
        if kind is Failed:
            self._fail(events[:-1], cast("Failed", last))
        elif self.isStreamed:
            data = self._renderer.feed(events)
            if not self._hasBegun and (data or kind is Finished):
                data = self._started() + data
            if kind is Finished:
                request.usage = cast("Finished", last).usage
                request.complete(data)
            elif data:
                request.write(data)
        elif kind is Finished:
            self._answer(cast("Finished", last))

    def conclude(self, events: Sequence[Output]) -> None:
        """
        Deliver the last of the answer. A mistake of ours on the way is told to
        this client, and no model waits for it.
        """
        try:
            self.give(events)
        except APIError as error:
            # The answer is not what was asked for.
            self.request.fail(error)
        except Exception:
            self.request.processingFailed(Failure())
            self._response.notDelivered()

    def begin(self) -> None:
        """
        Send the headers of a stream and its first event, which says nothing
        yet. Does nothing the second time.
        """
        if self.isStreamed and not self._hasBegun:
            self.request.write(self._started())

    def _started(self) -> bytes:
        self._hasBegun = True
        self.request.begin(self, self._keepAliveInterval)
        return self._renderer.start()

    def _fail(self, before: Sequence[Output], failed: Failed) -> None:
        self.request.usage = failed.usage
        if self.isStreamed:
            if before:
                self.give(before)
            self.request.fail(failed.error)
        elif failed.isCancelled and not self._response.isAbandoned:
            # By a request of its own: this one is told what there was until then.
            self._answerWith(failed)
        else:
            self.request.fail(failed.error)

    def _answer(self, finished: Finished) -> None:
        if finished.isEstimated:
            self.request.setHeader(b"x-hum-usage", b"estimated")
        if self._response.verdict is not None:
            self.request.setHeader(b"x-hum-schema", self._response.verdict)
        self._answerWith(finished)

    def _answerWith(self, last: Finished | Failed) -> None:
        self.request.usage = last.usage
        body = self._renderer.body([*(self._response.output or ()), last])
        self.request.answer(body, contentType=self._renderer.bodyType)

    # What a stream says beside what is written to it.

    @property
    def streamType(self) -> bytes:
        """
        Its content type.
        """
        return self._renderer.streamType

    @property
    def errorIsEnd(self) -> bool:
        """
        Whether it is complete when its last words are an error. A browser
        forgets the last words of what is cut, and our page looks for the end of
        the answer itself.
        """
        return self._renderer.errorIsEnd or self._isFromPage

    def keepAlive(self) -> bytes:
        """
        Return what is said after a silence.
        """
        return self._renderer.keepAlive()

    def error(self, error: APIError) -> bytes:
        """
        Return the last words of a stream that cannot be completed, with what
        it has cost until then.
        """
        return self._renderer.feed([Failed(error, self._response.usage())])

    # What the request tells its owner.

    def clientGone(self, end: End) -> None:
        """
        The client is gone, or was cut, before its answer was complete.
        """
        self._response.clientGone(self, mayReturn=end in _LEFT)

    def delivered(self, inGoodOrder: bool) -> None:
        """
        The answer was complete, and the client is known to have it or to have
        left before it had all of it.
        """
        self._response.delivered(inGoodOrder)

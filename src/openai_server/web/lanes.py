# -*- test-case-name: tests.web.test_websocket -*-
"""
The requests of one WebSocket connection, one after the other in each lane; see
L{openai_server.api.responses.websocket}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from openai_server.api.body import objectFromBody
from openai_server.api.responses.websocket import createFrom, endedFrom, laneFrom, recordFrom
from openai_server.errors import APIError
from openai_server.web.bodybudget import BodyShare
from openai_server.web.lanememory import LaneMemory, Remembered
from openai_server.web.message import MessageRequest

#: Responses of one connection that are open at once, lanes with a name, both as
#: at OpenAI; and requests that wait.
MOST_OPEN: Final = 16
MOST_LANES: Final = 32
MOST_WAITING: Final = 64


class Lanes:
    """
    What is answered on a connection, and what waits for that.
    """

    def __init__(
        self,
        process: Callable[[MessageRequest], None],
        memory: LaneMemory,
        *,
        keeps: bool,
    ) -> None:
        """
        @param process: begins with a request.
        @param memory: what is known of responses that are not stored.
        @param keeps: whether responses are kept that do not say otherwise.
        """
        self._process = process
        self._memory = memory
        self._keeps = keeps
        self._names: set[str] = set()
        self._open: list[MessageRequest] = []
        self._waiting: list[tuple[MessageRequest, BodyShare]] = []
        self._waitingBytes = 0
        self._isBeginning = False
        self._isLeft = False

    @property
    def isEmpty(self) -> bool:
        """
        Whether nothing is answered and nothing waits.
        """
        return not (self._open or self._waiting)

    def hasRoomFor(self, size: int, limit: int) -> bool:
        """
        Return whether one more request can wait.

        @param size: bytes of its message.
        @param limit: bytes of all messages that may wait.
        """
        return len(self._waiting) < MOST_WAITING and self._waitingBytes + size <= limit

    def read(self, request: MessageRequest, message: bytes) -> None:
        """
        Read what a request asks.

        @raise APIError: 400.
        """
        members = objectFromBody(message)
        request.lane = lane = laneFrom(members)
        if lane is not None and lane not in self._names:
            if len(self._names) >= MOST_LANES:
                said = f"This connection has {MOST_LANES} lanes already: use one of them, or open another."
                raise APIError("websocket_stream_limit_reached", said, param="stream_id")
            self._names.add(lane)
        request.event = createFrom(members, self._keeps)

    def add(self, request: MessageRequest, share: BodyShare) -> None:
        """
        Begin with a request now, or when its lane is free.

        @param share: what its message holds of the budget while it waits.
        """
        self._waiting.append((request, share))
        self._waitingBytes += request.size
        self._beginFree()

    def refuse(self, request: MessageRequest, error: APIError) -> None:
        """
        Answer nothing but this request, with an error.
        """
        self.leave()
        self._open.append(request)
        request.opened()
        request.fail(error)

    def done(self) -> None:
        """
        Begin with those that wait for a request whose answer is written now.
        """
        for request in [each for each in self._open if each.finished]:
            self._open.remove(request)
            if not self._isLeft:
                self._remember(request)
        self._beginFree()

    def _beginFree(self) -> None:
        if self._isBeginning:
            return
        self._isBeginning = True
        try:
            while not self._isLeft and (found := self._nextOne()) is not None:
                request, share = self._waiting.pop(found)
                self._waitingBytes -= request.size
                share.release()
                self._open.append(request)
                self._process(request)
        finally:
            self._isBeginning = False

    def _nextOne(self) -> int | None:
        if len(self._open) >= MOST_OPEN:
            return None
        busy = {request.lane for request in self._open}
        return next((at for at, (each, _) in enumerate(self._waiting) if each.lane not in busy), None)

    def _remember(self, request: MessageRequest) -> None:
        event, last = request.event, request.lastEvent
        if event is None:
            return
        ended = None if last is None else endedFrom(last)
        if last is None or ended is None or ended.status == "failed":
            self._memory.forget(request.lane, event.previous)
        elif event.input is None or (ended.store and request.parent is None):
            self._memory.replace(request.lane, None)
        else:
            parent = request.parent or Remembered("", event.previous, [])
            record = recordFrom(event.input, last)
            self._memory.replace(request.lane, parent.followedBy(ended.id, record))

    # The end.

    def stuck(self) -> None:
        """
        The client reads nothing.
        """
        for request in list(self._open):
            request.clientStuck()

    def leave(self, reason: Failure = connectionDone) -> None:
        """
        The client is gone, for all requests. Nothing is begun any more.
        """
        self._isLeft = True
        waiting, self._waiting = self._waiting, []
        for _, share in waiting:
            share.release()
        requests, self._open = self._open, []
        for request in requests:
            request.connectionLost(reason)
        self._memory.clear()

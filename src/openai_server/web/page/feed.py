# -*- test-case-name: tests.web.test_page -*-
"""
The stream of what the server does: all that there is, then what changes, at
most once a second, to each page that listens.

A page that reads slowly is cut by its L{send queue
<openai_server.web.sendqueue.SendQueue>} like every client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.accounts.account import Account
from openai_server.api.sse import STREAM_TYPE, errorEvent, oneLine
from openai_server.errors import APIError, End, shuttingDown
from openai_server.web.administrators import checkAdministrator
from openai_server.web.headers import isFromPage
from openai_server.web.interfaces import Request
from openai_server.web.page.activity import Activity
from openai_server.web.routes import Answer

#: Pages that may listen at once.
LISTENERS: Final = 16
#: Seconds between two looks at what has changed.
PERIOD: Final = 1.0
#: Seconds of silence after which a stream says something.
_SILENCE: Final = 15.0

_encode = msgspec.json.Encoder().encode


class Feed:
    """
    Tells pages what there is, and what changes.
    """

    def __init__(
        self,
        clock: IReactorTime,
        sections: Callable[[], Mapping[str, object]],
        activity: Activity,
        isHeld: Callable[[Account], bool],
    ) -> None:
        """
        @param sections: gives what there is, by name.
        @param isHeld: tells whether an account still has a key.
        """
        self._clock = clock
        self._sections = sections
        self._activity = activity
        self._isHeld = isHeld
        self._listeners: dict[Listener, None] = {}
        self._told: Mapping[str, bytes] = {}
        self._count = 0
        self._timer: IDelayedCall | None = None
        self._isStopped = False

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return method, template and function of the one route.
        """
        return [("GET", "/page/events", self.listen)]

    @property
    def listeners(self) -> int:
        """
        How many listen.
        """
        return len(self._listeners)

    async def listen(self, request: Request) -> None:
        """
        Tell a page what there is, and from now on what changes.

        @raise APIError: it may not listen, or too many do.
        """
        # A page of another origin is to take no listener's place.
        if not isFromPage(request):
            raise APIError("bad_request", "The header X-Page is missing: this stream is for the page alone.")
        checkAdministrator(request)
        if self._isStopped:
            raise shuttingDown()
        if len(self._listeners) >= LISTENERS:
            said = f"{LISTENERS} pages watch this server already: close one of them."
            raise APIError("line_full", said, retryAfter=5)
        if self._timer is None:
            self._look()
        listener = Listener(request, self._left)
        self._listeners[listener] = None
        request.begin(listener, _SILENCE)
        request.write(_event(b"snapshot", self._told, self._requests(0, self._count)))
        self._watch()

    def stop(self) -> None:
        """
        End all streams, and take no more.
        """
        self._isStopped = True
        listeners, self._listeners = list(self._listeners), {}
        for listener in listeners:
            listener.request.complete(b"event: end\ndata: {}\n\n")
        self._rest()

    # Inside.

    def _look(self) -> bytes | None:
        # What is new since the last look, as an event.
        sections = {name: _encode(section) for name, section in self._sections().items()}
        changed = {name: said for name, said in sections.items() if self._told.get(name) != said}
        requests = self._requests(self._count, self._activity.count)
        self._told, self._count = sections, self._activity.count
        return _event(b"change", changed, requests) if changed or requests else None

    def _requests(self, start: int, end: int) -> bytes | None:
        requests = self._activity.requests(start, end)
        return _encode(requests) if requests else None

    def _watch(self) -> None:
        if self._timer is None and self._listeners:
            self._timer = self._clock.callLater(PERIOD, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._checkKeys()
        event = self._look()
        if event is not None:
            for listener in list(self._listeners):
                listener.request.write(event)
        self._watch()

    def _checkKeys(self) -> None:
        for listener in list(self._listeners):
            account = listener.request.account
            if account is None or not self._isHeld(account):
                del self._listeners[listener]
                listener.request.fail(APIError("invalid_api_key", "This API key is good no longer."))

    def _left(self, listener: Listener) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners:
            self._rest()

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class Listener:
    """
    One page that listens: the owner of its request, and the words of its stream.
    """

    streamType = STREAM_TYPE
    errorIsEnd = True

    def __init__(self, request: Request, onLeft: Callable[[Listener], None]) -> None:
        """
        @param onLeft: called when it listens no more.
        """
        self.request = request
        self._onLeft = onLeft
        request.owner = self

    def keepAlive(self) -> bytes:
        """
        Return what is said after a silence.
        """
        return b": still here\n\n"

    def error(self, error: APIError) -> bytes:
        """
        Return the last words of a stream that is cut.
        """
        return errorEvent(error)

    def clientGone(self, end: End) -> None:
        """
        The page is gone.
        """
        self._onLeft(self)

    def delivered(self, inGoodOrder: bool) -> None:
        """
        The stream has ended.
        """
        self._onLeft(self)


def _event(name: bytes, sections: Mapping[str, bytes], requests: bytes | None) -> bytes:
    members = [b"%b:%b" % (_encode(name), said) for name, said in sections.items()]
    if requests is not None:
        members.append(b'"requests":' + requests)
    return b"event: %b\ndata: {%b}\n\n" % (name, oneLine(b",".join(members)))

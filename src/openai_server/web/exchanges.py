# -*- test-case-name: tests.flow.test_conversations -*-
"""
Responses in conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import ConversationReader, RecordsWanted
from openai_server.api.output import Finished
from openai_server.errors import APIError
from openai_server.web.kept import KeptAnswers
from openai_server.web.locks import ConversationLeases, ConversationLocks, Place
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response

#: Bytes that an item takes beside its own.
_BESIDE: Final = 512

#: Seconds that the next response waits for the store, and for the session of the
#: one before it.
_PATIENCE: Final = 10.0

_log = Logger()


class Exchanges:
    """
    Lets one response at a time answer in a conversation. When it has ended
    well, complete or not, or with calls, the conversation has its input and
    output from then on, whether a client is there or not. Of one that has
    failed or was cancelled it has nothing: the same can be asked again.

    One that was left by all its clients, and whose worker was asked to stop, is
    cancelled when another one wants to answer.

    @ivar _left: those of that kind.
    """

    def __init__(
        self,
        clock: IReactorTime,
        reader: ConversationReader,
        kept: KeptAnswers,
        limit: int,
        leases: ConversationLeases | None = None,
    ) -> None:
        """
        @param limit: bytes of one conversation.
        @param leases: where other processes answer in the same conversations.
        """
        self._clock = clock
        self._locks = ConversationLocks(clock, leases)
        if leases is not None:
            leases.onWanted = self._cancelLeft
        self._reader = reader
        self._kept = kept
        self._limit = limit
        self._left: dict[Place, Response] = {}

    async def answer(
        self,
        account: str,
        wanted: RecordsWanted,
        ask: Callable[[Inquiry], Coroutine[Any, Any, Response]],
    ) -> Response:
        """
        Return what answers a request in a conversation, once those before it
        are answered.

        @param ask: asks what the request asks, after all that was said before.
        @raise APIError: 409, these took too long; 404, the conversation is
            gone; 413, it is full; or what asking raises.
        """
        assert wanted.conversation is not None
        place = account, wanted.conversation
        self._cancelLeft(place)
        await self._locks.acquire(place)
        try:
            found = await self._kept.lookUp(account, wanted)
            inquiry = wanted.read(found)
            self._checkSize([*found.said, *[item for _, item in self._reader.itemsOf(inquiry, ())]])
            response = await ask(inquiry)
        except BaseException:
            self._locks.release(place)
            raise
        # What it asks is not held for as long as the answer lasts.
        bare = inquiry.withMessages(())
        response.onLeft = partial(self._wasLeft, place, response)
        response.whenEnded().addCallback(lambda _: self._ended(place, bare, response))
        return response

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later.
        """
        self._locks.stop()

    def _checkSize(self, items: Sequence[bytes]) -> None:
        if sum(map(len, items)) + _BESIDE * len(items) > self._limit:
            raise tooLarge("conversation")

    def _cancelLeft(self, place: Place) -> None:
        if (left := self._left.get(place)) is not None:
            left.cancel()

    def _wasLeft(self, place: Place, response: Response) -> None:
        if self._locks.isWaitedFor(place):
            response.cancel()
        else:
            self._left[place] = response

    def _ended(self, place: Place, inquiry: Inquiry, response: Response) -> None:
        self._left.pop(place, None)
        if type(response.ended) is not Finished:
            self._locks.release(place)
            return
        adding = Deferred.fromCoroutine(self._add(place, inquiry, response, response.ended))
        adding.addErrback(_notAdded, place[1])
        if not response.calls:
            # Before that its session is busy, and the next one could not go on in it.
            adding.addCallback(lambda _: response.conversation.whenSettled())
        adding.addTimeout(_PATIENCE, self._clock).addErrback(lambda failure: failure.trap(TimeoutError))
        adding.addBoth(lambda _: self._locks.release(place))

    async def _add(self, place: Place, inquiry: Inquiry, response: Response, ended: Finished) -> None:
        store, output = self._kept.store, response.output
        if output is not None:
            items = self._reader.itemsOf(inquiry, [*output, ended])
            if await store.append(*place, items):
                return
        record = await store.get(*place)
        if record is not None:
            _log.warn("an answer had no room in its conversation")
            await store.put(*place, self._reader.withLoss(record))


def tooLarge(param: str) -> APIError:
    """
    Return what is said where a conversation would be larger than all that may
    be kept.
    """
    said = "The conversation would be larger than what this server keeps: go on in a new one."
    return APIError("request_too_large", said, param=param)


def _notAdded(failure: Failure, id: str) -> None:
    errorFromMistake(failure, id, "conversation")

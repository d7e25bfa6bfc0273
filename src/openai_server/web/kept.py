# -*- test-case-name: tests.flow.test_kept -*-
"""
Answers that are kept, whatever their dialect.

An answer is known from when it begins, and has a record from when it ends. No
account sees another's: to everybody else there is nothing under its id.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordNames, RecordsFound, RecordsWanted
from openai_server.api.output import Failed, Output
from openai_server.coroutines import begun
from openai_server.errors import APIError
from openai_server.store.interfaces import RecordStore
from openai_server.web.interfaces import Request
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response, cancelled
from openai_server.web.runninganswer import RunningAnswer
from openai_server.web.sealing import SealingKey
from openai_server.web.sharedanswers import SharedAnswers

_SHOWN_ID: Final = 200


#: What the ids of conversations begin with, which are no answers.
_CONVERSATION: Final = "conv_"


class KeptAnswers:
    """
    The answers that are being made, and their records.

    @ivar store: has the records.
    """

    def __init__(
        self, store: RecordStore, key: SealingKey, shared: SharedAnswers | None = None
    ) -> None:
        """
        @param key: of what clients keep.
        @param shared: what other processes are told of; None where there are none.
        """
        self._shared = shared
        if shared is not None:
            shared.hear(self._wished)
        self.store = store
        self._key = key
        self._running: dict[Response, RunningAnswer] = {}
        self._byId: dict[tuple[str, str], RunningAnswer] = {}

    async def resolved(self, account: str, wanted: RecordsWanted) -> Inquiry:
        """
        Return what a request asks that needs records to be read.

        @raise APIError: 400 or 404, there is none that it names.
        """
        return wanted.read(await self.lookUp(account, wanted))

    async def lookUp(self, account: str, names: RecordNames) -> RecordsFound:
        """
        Return those of these records that there are.

        @raise APIError: 404, there is no such conversation.
        """
        store = self.store
        chain: Sequence[bytes] = ()
        if names.previous is not None and not names.previous.startswith(_CONVERSATION):
            chain = await store.chain(account, names.previous)
        conversation: bytes | None = None
        said: Sequence[bytes] = ()
        if names.conversation is not None:
            conversation = await self.conversation(account, names.conversation)
            said = [item for _, item in await store.items(account, names.conversation)]
        others = [await store.get(account, id) for id in names.others]
        items = [await store.item(account, *place) for place in names.items]
        return RecordsFound(
            chain=chain,
            conversation=conversation,
            said=said,
            others=[record for record in others if record is not None],
            items=[item for item in items if item is not None],
            seal=self._key.sealOf(account),
        )

    async def conversation(self, account: str, id: str) -> bytes:
        """
        Return the record of a conversation.

        @raise APIError: 404.
        """
        record = await self.store.get(account, id) if id.startswith(_CONVERSATION) else None
        if record is None:
            raise notFound(id, "Conversation")
        return record

    def begun(self, account: str, keeping: Keeping, response: Response) -> None:
        """
        Keep what answers a request.
        """
        place = placeOf(account, keeping.kind)
        running = self._byId[place, keeping.id] = RunningAnswer(place, keeping, response)
        self._follow(running, response)

    def _follow(self, running: RunningAnswer, response: Response) -> None:
        response.isKept = True
        self._running[response] = running
        if response.ended is not None:
            self.ended(response)

    def ended(self, response: Response) -> None:
        """
        Make the record of an answer, if it is to be kept.
        """
        running = self._running.pop(response, None)
        if running is None:
            return
        if response.output is None:
            # It has become too long for that.
            self._over(running)
        else:
            self._put(running, response.said())

    def _put(self, running: RunningAnswer, events: list[Output]) -> None:
        keeping = running.keeping
        record = keeping.record(events)
        if record:
            putting = Deferred.fromCoroutine(self._store(running.account, keeping, record))
            putting.addErrback(_notKept, keeping.id)
        self._over(running)

    def _over(self, running: RunningAnswer) -> None:
        """
        Know an answer only by its record, if there is one.
        """
        del self._byId[running.account, running.keeping.id]
        if running.isShared and self._shared is not None:
            self._shared.ended(running.account, running.keeping.id)

    async def _store(self, account: str, keeping: Keeping, record: bytes) -> None:
        await self.store.put(account, keeping.id, record, keeping.previous)
        if keeping.items and not await self.store.append(account, keeping.id, keeping.items):
            # There is no room for all of it.
            await self.store.remove(account, keeping.id)

    def stop(self) -> None:
        """
        Hear no more of what other processes want.
        """
        if self._shared is not None:
            self._shared.stop()

    # In the background.

    def inBackground(
        self, account: str, keeping: Keeping, asking: Coroutine[Any, Any, Response]
    ) -> RunningAnswer:
        """
        Ask for an answer with nobody attached.

        @param asking: asks.
        @raise Exception: what that raises before it has to wait; then nothing
            is kept.
        """
        running = self._byId[account, keeping.id] = RunningAnswer(account, keeping, None)
        if self._shared is not None:
            running.isShared = True
            self._shared.begun(account, keeping.id, keeping.record(None))
        try:
            waiting = begun(self._ask(running, asking))
        except BaseException:
            self._over(running)
            raise
        if waiting is not None:
            running.asking = waiting
            waiting.addErrback(self._notAsked, running)
        return running

    async def _ask(self, running: RunningAnswer, asking: Coroutine[Any, Any, Response]) -> None:
        response = await asking
        if self._shared is not None and self.running(running.account, running.keeping.id) is running:
            self._shared.begun(running.account, running.keeping.id, running.keeping.record([]))
        self._follow(running, response)
        running.wasAsked(response)

    def _notAsked(self, failure: Failure, running: RunningAnswer) -> None:
        error = failure.value
        isCancelled = isinstance(error, CancelledError)
        if isCancelled:
            error = cancelled()
        elif not isinstance(error, APIError):
            error = errorFromMistake(failure, running.keeping.id, "background")
        if self._byId.get((running.account, running.keeping.id)) is running:
            self._put(running, [Failed(error, isCancelled=isCancelled)])
        running.wasNotAsked(error)

    # What can be asked of them.

    def running(self, account: str, id: str) -> RunningAnswer | None:
        """
        Return an answer that is being made.
        """
        return self._byId.get((account, id))

    async def found(self, account: str, id: str) -> bytes:
        """
        Return the record of an answer, as far as it has come.

        @raise APIError: 404.
        """
        running = self.running(account, id)
        if id.startswith(_CONVERSATION):
            raise notFound(id)
        if running is not None:
            record: bytes | None = running.keeping.record(running.said())
        else:
            record = await self._foundElsewhere(account, id)
        if not record:
            raise notFound(id)
        return record

    async def _foundElsewhere(self, account: str, id: str) -> bytes | None:
        shared = self._shared
        if shared is None:
            return await self.store.get(account, id)
        # One that ends meanwhile is kept before it is made no more.
        for look in (shared.found, self.store.get, shared.found, shared.left):
            if (record := await look(account, id)) is not None:
                return record
        return None

    async def isElsewhere(self, account: str, id: str) -> bool:
        """
        Return whether another process makes an answer.
        """
        isHere = self._shared is None or self.running(account, id) is not None
        return not isHere and self._shared is not None and await self._shared.isMade(account, id)

    def _wished(self, isToBeKept: bool, account: str, id: str) -> None:
        """
        Do what was wished for at another process.
        """
        if self.running(account, id) is not None:
            doing = self.cancel(account, id) if isToBeKept else self.forget(account, id)
            Deferred.fromCoroutine(doing).addErrback(_notKept, id)

    async def forget(self, account: str, id: str, kind: str = "Response") -> None:
        """
        Forget an answer. One that is being made goes on while somebody reads
        it, and is not kept.

        @param kind: what it is called in the error.
        @raise APIError: 404.
        """
        running = self.running(account, id)
        if running is None:
            if id.startswith(_CONVERSATION) or not await self._remove(account, id):
                raise notFound(id, kind)
            return
        self._over(running)
        if running.asking is not None:
            running.asking.cancel()
        elif (response := running.response) is not None:
            del self._running[response]
            response.isKept = response.survives = False
            if not response.hasClients:
                response.abandon()

    async def _remove(self, account: str, id: str) -> bool:
        isUnfinished = self._shared is not None and await self._shared.forget(account, id)
        return await self.store.remove(account, id) or isUnfinished

    async def cancel(self, account: str, id: str) -> None:
        """
        Cancel an answer that is being made, by whatever process; one that has
        ended stays as it is.
        """
        running = self.running(account, id)
        if running is None and self._shared is not None:
            await self._shared.cancel(account, id)
        elif running is not None and running.asking is not None:
            running.asking.cancel()
        elif running is not None and running.response is not None:
            running.response.cancel()


def accountOf(request: Request) -> str:
    """
    Return the name of the account whose request this is.
    """
    assert request.account is not None
    return request.account.name


def placeOf(account: str, kind: str) -> str:
    """
    Return for whom the store keeps an account's records of a kind.
    """
    return f"{account}/{kind}" if kind else account


def notFound(id: str, kind: str = "Response") -> APIError:
    """
    Return what is said where there is nothing under an id, or another
    account's.
    """
    return APIError("not_kept", f"{kind} with id '{id[:_SHOWN_ID]}' not found.")


def _notKept(failure: Failure, id: str) -> None:
    errorFromMistake(failure, id, "record")

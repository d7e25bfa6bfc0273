# -*- test-case-name: tests.flow.test_kept -*-
"""
Answers that are kept, whatever their dialect.

An answer is known from when it begins, and has a record from when it ends. No
account sees another's: to everybody else there is nothing under its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.python.failure import Failure

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import Keeping, RecordsWanted
from openai_server.api.output import Output
from openai_server.errors import APIError
from openai_server.store.interfaces import RecordStore
from openai_server.web.interfaces import Request
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response

_SHOWN_ID: Final = 200


class RunningAnswer:
    """
    An answer that is being made.

    @ivar account: whose it is.
    @ivar keeping: how it will be kept.
    @ivar isCancelled: whether it was cancelled by a request.
    """

    __slots__ = ("account", "isCancelled", "keeping", "response")

    def __init__(self, account: str, keeping: Keeping, response: Response) -> None:
        self.account = account
        self.keeping = keeping
        self.response = response
        self.isCancelled = False

    def record(self) -> bytes:
        """
        Return its record, as far as it has come.
        """
        response = self.response
        events: list[Output] = list(response.output or ())
        if response.ended is not None:
            events.append(response.ended)
        return self.keeping.record(events, self.isCancelled or response.isAbandoned)


class KeptAnswers:
    """
    The answers that are being made, and their records.

    @ivar store: has the records.
    """

    def __init__(self, store: RecordStore) -> None:
        self.store = store
        self._running: dict[Response, RunningAnswer] = {}
        self._byId: dict[tuple[str, str], RunningAnswer] = {}

    async def resolved(self, account: str, wanted: RecordsWanted) -> Inquiry:
        """
        Return what a request asks that needs records to be read.

        @raise APIError: 400, there is none that it names.
        """
        chain: Sequence[bytes] = ()
        if wanted.previous is not None:
            chain = await self.store.chain(account, wanted.previous)
        others = {}
        for id in wanted.others:
            record = await self.store.get(account, id)
            if record is not None:
                others[id] = record
        return wanted.read(chain, others)

    def begun(self, account: str, keeping: Keeping, response: Response) -> None:
        """
        Keep what answers a request.
        """
        running = RunningAnswer(account, keeping, response)
        self._running[response] = self._byId[account, keeping.id] = running
        if response.ended is not None:
            self.ended(response)

    def ended(self, response: Response) -> None:
        """
        Make the record of an answer, if it is to be kept.
        """
        running = self._running.pop(response, None)
        if running is None:
            return
        keeping = running.keeping
        del self._byId[running.account, keeping.id]
        if response.output is None:
            # It has become too long for that.
            return
        putting = self.store.put(running.account, keeping.id, running.record(), keeping.previous)
        putting.addErrback(_notKept, keeping.id)

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
        record = running.record() if running is not None else await self.store.get(account, id)
        if record is None:
            raise notFound(id)
        return record

    async def forget(self, account: str, id: str) -> None:
        """
        Forget an answer. One that is being made goes on, and is not kept.

        @raise APIError: 404.
        """
        running = self._byId.pop((account, id), None)
        if running is not None:
            del self._running[running.response]
        elif not await self.store.remove(account, id):
            raise notFound(id)


def accountOf(request: Request) -> str:
    """
    Return the name of the account whose request this is.
    """
    assert request.account is not None
    return request.account.name


def notFound(id: str, kind: str = "Response") -> APIError:
    """
    Return what is said where there is nothing under an id, or another
    account's.
    """
    return APIError("not_kept", f"{kind} with id '{id[:_SHOWN_ID]}' not found.")


def _notKept(failure: Failure, id: str) -> None:
    errorFromMistake(failure, id, "record")

# -*- test-case-name: tests.flow.test_kept -*-
"""
Answers that are kept: what a request goes on from, and what can be asked for
again, cancelled and deleted.

An answer is known from when it begins, and has a record from when it ends. No
account sees another's: to everybody else there is nothing under its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from twisted.python.failure import Failure

from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import KeepingDialect, RecordsWanted
from openai_server.api.output import Output
from openai_server.errors import APIError
from openai_server.store.interfaces import RecordStore
from openai_server.web.interfaces import Request
from openai_server.web.mistakes import errorFromMistake
from openai_server.web.response import Response

#: Items of one list, without a C{limit} and with the highest.
_USUAL: Final = 20
_MOST: Final = 100
_SHOWN_ID: Final = 200
#: Fields of a query.
_FIELDS: Final = 100


class _Running:
    """
    An answer that is being made.

    @ivar account: whose it is.
    @ivar id: under which its record will be.
    @ivar isCancelled: whether it was cancelled by a request.
    """

    __slots__ = ("account", "id", "inquiry", "isCancelled", "response")

    def __init__(self, account: str, id: str, inquiry: Inquiry, response: Response) -> None:
        self.account = account
        self.id = id
        self.inquiry = inquiry
        self.response = response
        self.isCancelled = False


class KeptAnswers:
    """
    The answers of one dialect's.

    @ivar dialect: what reads and writes their records.
    """

    def __init__(self, dialect: KeepingDialect, store: RecordStore) -> None:
        self.dialect = dialect
        self._store = store
        self._running: dict[Response, _Running] = {}
        self._byId: dict[tuple[str, str], _Running] = {}

    # The way of a request.

    async def resolved(self, account: str, body: bytes, model: str, wanted: RecordsWanted) -> Inquiry:
        """
        Return what a request asks that needs records to be read.

        @param model: that it asks for; empty where it names none.
        @raise APIError: 400, there is none that it names.
        """
        chain: Sequence[bytes] = ()
        if wanted.previous is not None:
            chain = await self._store.chain(account, wanted.previous)
        others = {}
        for id in wanted.others:
            record = await self._store.get(account, id)
            if record is not None:
                others[id] = record
        return self.dialect.resolved(body, model or None, chain, others)

    def begun(self, account: str, inquiry: Inquiry, response: Response) -> None:
        """
        Keep what answers an inquiry, if it is to be kept.
        """
        id = self.dialect.recordId(inquiry)
        if id is None:
            return
        # Its messages are not needed any more.
        running = _Running(account, id, inquiry.withMessages(()), response)
        self._running[response] = self._byId[account, id] = running
        if response.ended is not None:
            self.ended(response)

    def ended(self, response: Response) -> None:
        """
        Make the record of an answer, if it is to be kept.
        """
        running = self._running.pop(response, None)
        if running is None:
            return
        del self._byId[running.account, running.id]
        if response.output is None:
            # It has become too long for that.
            return
        record = self._recordOf(running)
        previous = self.dialect.previousOf(running.inquiry)
        putting = self._store.put(running.account, running.id, record, previous)
        putting.addErrback(_notKept, running.id)

    def _recordOf(self, running: _Running) -> bytes:
        response = running.response
        events: list[Output] = list(response.output or ())
        if response.ended is not None:
            events.append(response.ended)
        return self.dialect.record(running.inquiry, events, running.isCancelled or response.isAbandoned)

    # What can be asked of them.

    async def retrieve(self, request: Request, id: str) -> bytes:
        """
        Return an answer, as far as it has come.

        @raise APIError: 404.
        """
        if _query(request).get("stream", "false") != "false":
            said = "Streams cannot be resumed at this server."
            raise APIError("unsupported_parameter", said, param="stream")
        return self.dialect.answerOf(await self._found(request, id))

    async def delete(self, request: Request, id: str) -> bytes:
        """
        Forget an answer. One that is being made goes on, and is not kept.

        @raise APIError: 404.
        """
        account = _accountOf(request)
        running = self._byId.pop((account, id), None)
        if running is not None:
            del self._running[running.response]
        elif not await self._store.remove(account, id):
            raise _notFound(id)
        return msgspec.json.encode({"id": id, "object": "response", "deleted": True})

    async def cancel(self, request: Request, id: str) -> bytes:
        """
        Cancel an answer that is being made; one that has ended stays as it is.

        @raise APIError: 404.
        """
        running = self._byId.get((_accountOf(request), id))
        if running is None:
            return self.dialect.answerOf(await self._found(request, id))
        running.isCancelled = True
        running.response.conversation.cancel()
        running.response.failed(APIError("worker_error", "The response was cancelled.", mayRetry=False))
        return self.dialect.answerOf(self._recordOf(running))

    async def inputItems(self, request: Request, id: str) -> bytes:
        """
        Return the items that an answer is the answer to, page by page.

        @raise APIError: 404; 400, the page is none.
        """
        query = _query(request)
        records = await self._store.chain(_accountOf(request), id)
        items = list(self.dialect.inputOf(records or [await self._found(request, id)]))
        if _oneOf(query, "order", ("desc", "asc")) == "desc":
            items.reverse()
        limit = query.get("limit", str(_USUAL))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= _MOST):
            raise APIError("invalid_value", f"A number from 1 to {_MOST}.", param="limit")
        return _page(items, int(limit), query.get("after"))

    async def _found(self, request: Request, id: str) -> bytes:
        account = _accountOf(request)
        running = self._byId.get((account, id))
        if running is not None:
            return self._recordOf(running)
        record = await self._store.get(account, id)
        if record is None:
            raise _notFound(id)
        return record


def _notKept(failure: Failure, id: str) -> None:
    errorFromMistake(failure, id, "record")


def _accountOf(request: Request) -> str:
    assert request.account is not None
    return request.account.name


def _query(request: Request) -> dict[str, str]:
    try:
        found = parse_qs(request.query.decode("utf-8", "replace"), max_num_fields=_FIELDS)
    except ValueError:
        raise APIError("invalid_value", f"The query has more than {_FIELDS} fields.") from None
    # The last one counts, as in headers.
    return {name: values[-1] for name, values in found.items()}


def _oneOf(query: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    value = query.get(name, known[0])
    if value not in known:
        raise APIError("invalid_value", f"Must be one of {', '.join(known)}.", param=name)
    return value


def _page(items: Sequence[Mapping[str, Any]], limit: int, after: str | None) -> bytes:
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise APIError("invalid_value", "There is no such item in this list.", param="after")
        start = ids.index(after) + 1
    page = items[start : start + limit]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > start + limit,
        }
    )


def _notFound(id: str) -> APIError:
    return APIError("not_kept", f"Response with id '{id[:_SHOWN_ID]}' not found.")

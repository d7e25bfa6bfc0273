# -*- test-case-name: tests.flow.test_kept -*-
"""
What can be asked of kept responses.
"""

from __future__ import annotations

from typing import Final

from openai_server.api.keeping import RecordReader
from openai_server.api.listing import pageBody
from openai_server.errors import APIError
from openai_server.web.headers import keepAliveInterval
from openai_server.web.interfaces import Request
from openai_server.web.kept import KeptAnswers, accountOf
from openai_server.web.query import isNewestFirst, limitOf, numberOf, oneOf, queryOf
from openai_server.web.response import tooLong
from openai_server.web.routes import Answer

#: The highest number of an event: JSON's readers are exact up to there.
_LAST: Final = 2**53
#: Seconds after which a stream that is made elsewhere may be asked for again.
_RETRY_AFTER: Final = 5


class KeptResponses:
    """
    The routes of kept responses.
    """

    def __init__(self, reader: RecordReader, kept: KeptAnswers, keepAliveInterval: float) -> None:
        """
        @param reader: the dialect of the responses.
        @param keepAliveInterval: seconds of silence after which a stream says
            something.
        """
        self._reader = reader
        self._keepAliveInterval = keepAliveInterval
        self._kept = kept

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return method, template and function of each.
        """
        one = "/v1/responses/<id>"
        return [
            ("GET", one, self.retrieve),
            ("DELETE", one, self.delete),
            ("POST", f"{one}/cancel", self.cancel),
            ("GET", f"{one}/input_items", self.inputItems),
        ]

    async def retrieve(self, request: Request, id: str) -> bytes | None:
        """
        Return a response, as far as it has come; or give what is left of its
        stream, behind the event C{starting_after}, and go on with it.

        @raise APIError: 404.
        """
        query, account = queryOf(request), accountOf(request)
        if oneOf(query, "stream", ("false", "true")) == "false":
            running = self._kept.running(account, id)
            if running is not None:
                return running.keeping.body(running.said())
            return self._reader.answerOf(await self._kept.found(account, id))
        await self._stream(request, account, id, numberOf(query, "starting_after", -1, 0, _LAST))
        return None

    async def _stream(self, request: Request, account: str, id: str, after: int) -> None:
        running = self._kept.running(account, id)
        if running is not None:
            response = await running.whenAsked()
            if response.output is None:
                raise tooLong()
            renderer = self._reader.resumed(running.keeping.renderer(), after)
            interval = keepAliveInterval(request, self._keepAliveInterval)
            response.attach(request, renderer, interval, isStreamed=True)
            return
        if await self._kept.isElsewhere(account, id):
            said = "Another server process makes this response: its stream can be read when it has ended."
            raise APIError("response_in_progress", said, retryAfter=_RETRY_AFTER)
        renderer, output = self._reader.replay(await self._kept.found(account, id))
        renderer = self._reader.resumed(renderer, after)
        request.begin(renderer, 0.0)
        request.complete(renderer.start() + renderer.feed(output))

    async def delete(self, request: Request, id: str) -> bytes:
        """
        Forget a response. One that is being made goes on, and is not kept.

        @raise APIError: 404.
        """
        await self._kept.forget(accountOf(request), id)
        return self._reader.deletedBody(id)

    async def cancel(self, request: Request, id: str) -> bytes:
        """
        Cancel a response that is being made; one that has ended stays as it
        is.

        @raise APIError: 404.
        """
        account = accountOf(request)
        await self._kept.cancel(account, id)
        return self._reader.answerOf(await self._kept.found(account, id))

    async def inputItems(self, request: Request, id: str) -> bytes:
        """
        Return the items that a response is the answer to, page by page.

        @raise APIError: 404; 400, the page is none.
        """
        query, account = queryOf(request), accountOf(request)
        isReversed, limit, after = isNewestFirst(query), limitOf(query), query.get("after")
        record = await self._kept.found(account, id)
        items = list(self._reader.inputOf(await self._kept.store.chain(account, id) or [record]))
        if isReversed:
            items.reverse()
        ids = [item["id"] for item in items]
        start = 0
        if after is not None:
            if after not in ids:
                raise APIError("invalid_value", "There is no such item in this list.", param="after")
            start = ids.index(after) + 1
        end = start + limit
        return pageBody(items[start:end], ids[start:end], len(items) > end)

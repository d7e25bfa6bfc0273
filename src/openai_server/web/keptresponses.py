# -*- test-case-name: tests.flow.test_kept -*-
"""
What can be asked of kept responses.
"""

from __future__ import annotations

from openai_server.api.keeping import RecordReader
from openai_server.api.listing import pageBody
from openai_server.errors import APIError
from openai_server.web.interfaces import Request
from openai_server.web.kept import KeptAnswers, accountOf
from openai_server.web.query import isNewestFirst, limitOf, queryOf
from openai_server.web.routes import Answer


class KeptResponses:
    """
    The routes of kept responses.
    """

    def __init__(self, reader: RecordReader, kept: KeptAnswers) -> None:
        """
        @param reader: the dialect of the responses.
        """
        self._reader = reader
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

    async def retrieve(self, request: Request, id: str) -> bytes:
        """
        Return a response, as far as it has come.

        @raise APIError: 404.
        """
        if queryOf(request).get("stream", "false") != "false":
            said = "Streams cannot be resumed at this server."
            raise APIError("unsupported_parameter", said, param="stream")
        return self._reader.answerOf(await self._kept.found(accountOf(request), id))

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
        running = self._kept.running(accountOf(request), id)
        if running is None:
            return self._reader.answerOf(await self._kept.found(accountOf(request), id))
        running.isCancelled = True
        running.response.conversation.cancel()
        running.response.failed(APIError("worker_error", "The response was cancelled.", mayRetry=False))
        return self._reader.answerOf(running.record())

    async def inputItems(self, request: Request, id: str) -> bytes:
        """
        Return the items that a response is the answer to, page by page.

        @raise APIError: 404; 400, the page is none.
        """
        query, account = queryOf(request), accountOf(request)
        isReversed, limit, after = isNewestFirst(query), limitOf(query), query.get("after")
        records = await self._kept.store.chain(account, id)
        items = list(self._reader.inputOf(records or [await self._kept.found(account, id)]))
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

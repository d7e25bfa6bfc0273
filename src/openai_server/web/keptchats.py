# -*- test-case-name: tests.flow.test_keptchats -*-
"""
What can be asked of kept chat completions.

One that is being made, or has failed, is not there: its object has no way to
say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from openai_server.api.keeping import CompletionReader
from openai_server.api.listing import pageBody
from openai_server.errors import APIError
from openai_server.store.interfaces import Entry
from openai_server.web.interfaces import Request
from openai_server.web.kept import KeptAnswers, accountOf, notFound, placeOf
from openai_server.web.query import isNewestFirst, limitOf, membersOf, queryOf
from openai_server.web.routes import Answer

#: Records that are looked at together where only some are wanted.
_SEARCHED: Final = 500
_KIND: Final = "Chat completion"


class KeptChats:
    """
    The routes of kept chat completions.
    """

    def __init__(self, reader: CompletionReader, kind: str, kept: KeptAnswers) -> None:
        """
        @param reader: the dialect of the completions.
        @param kind: of their records.
        """
        self._reader = reader
        self._kind = kind
        self._kept = kept
        self._store = kept.store

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return method, template and function of each.
        """
        one = "/v1/chat/completions/<id>"
        return [
            ("GET", "/v1/chat/completions", self.listed),
            ("GET", one, self.retrieve),
            ("POST", one, self.update),
            ("DELETE", one, self.delete),
            ("GET", f"{one}/messages", self.messages),
        ]

    async def listed(self, request: Request) -> bytes:
        """
        Return completions, page by page, those of a C{model} or with some
        C{metadata} where the query says so.

        @raise APIError: 400, the page is none.
        """
        query, place = queryOf(request), self._placeOf(request)
        isReversed, limit, after = isNewestFirst(query, "asc"), limitOf(query), query.get("after")
        if after is not None and await self._store.get(place, after) is None:
            raise _notInList()
        model, metadata = query.get("model"), membersOf(request, "metadata")
        found = await self._search(place, after, limit + 1, isReversed, model, metadata)
        return _pageBody(found, limit)

    async def _search(
        self,
        place: str,
        after: str | None,
        count: int,
        isReversed: bool,
        model: str | None,
        metadata: Mapping[str, str],
    ) -> Sequence[Entry]:
        read = count if model is None and not metadata else _SEARCHED
        found: list[Entry] = []
        while len(found) < count:
            records = await self._store.records(place, "", after=after, limit=read, newestFirst=isReversed)
            found += [each for each in records if self._reader.isDescribedBy(each[1], model, metadata)]
            if len(records) < read:
                break
            after = records[-1][0]
        return found[:count]

    async def retrieve(self, request: Request, id: str) -> bytes:
        """
        Return a completion.

        @raise APIError: 404.
        """
        return await self._found(self._placeOf(request), id)

    async def update(self, request: Request, id: str) -> bytes:
        """
        Change the metadata of a completion, and return it.

        @raise APIError: 404; 400, the body is no good.
        """
        place = self._placeOf(request)
        changed = self._reader.changed(await self._found(place, id), request.takeBody())
        await self._store.put(place, id, changed)
        return changed

    async def delete(self, request: Request, id: str) -> bytes:
        """
        Forget a completion. One that is being made goes on, and is not kept.

        @raise APIError: 404.
        """
        await self._kept.forget(self._placeOf(request), id, _KIND)
        return self._reader.deletedBody(id)

    async def messages(self, request: Request, id: str) -> bytes:
        """
        Return the messages of the request that a completion answers, page by
        page.

        @raise APIError: 404; 400, the page is none.
        """
        query, place = queryOf(request), self._placeOf(request)
        isReversed, limit, after = isNewestFirst(query, "asc"), limitOf(query), query.get("after")
        await self._found(place, id)
        if after is not None and await self._store.item(place, id, after) is None:
            raise _notInList()
        found = await self._store.items(place, id, after=after, limit=limit + 1, newestFirst=isReversed)
        return _pageBody(found, limit)

    def _placeOf(self, request: Request) -> str:
        return placeOf(accountOf(request), self._kind)

    async def _found(self, place: str, id: str) -> bytes:
        record = await self._store.get(place, id)
        if record is None:
            raise notFound(id, _KIND)
        return record


def _pageBody(found: Sequence[Entry], limit: int) -> bytes:
    """
    Return a page of what was found, which is one more if there is a next page.
    """
    shown = found[:limit]
    return pageBody([msgspec.Raw(data) for _, data in shown], [id for id, _ in shown], len(found) > limit)


def _notInList() -> APIError:
    return APIError("invalid_value", "There is nothing of this id in the list.", param="after")

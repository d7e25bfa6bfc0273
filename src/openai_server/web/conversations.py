# -*- test-case-name: tests.flow.test_conversations -*-
"""
What can be asked of conversations and their items.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from openai_server.api.keeping import ConversationReader, ItemsWanted
from openai_server.api.listing import pageBody
from openai_server.errors import APIError
from openai_server.store.interfaces import Entry
from openai_server.web.exchanges import tooLarge
from openai_server.web.interfaces import Request
from openai_server.web.kept import KeptAnswers, accountOf, notFound
from openai_server.web.query import isNewestFirst, limitOf, queryOf
from openai_server.web.routes import Answer


class ConversationRoutes:
    """
    The routes of conversations.
    """

    def __init__(self, reader: ConversationReader, kept: KeptAnswers, isKept: bool) -> None:
        """
        @param isKept: whether conversations are kept at all.
        """
        self._reader = reader
        self._kept = kept
        self._store = kept.store
        self._isKept = isKept

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return method, template and function of each.
        """
        all = "/v1/conversations"
        one = f"{all}/<id>"
        items = f"{one}/items"
        return [
            ("POST", all, self.create),
            ("GET", one, self.retrieve),
            ("POST", one, self.update),
            ("DELETE", one, self.delete),
            ("POST", items, self.createItems),
            ("GET", items, self.listItems),
            ("GET", f"{items}/<item>", self.retrieveItem),
            ("DELETE", f"{items}/<item>", self.deleteItem),
        ]

    async def create(self, request: Request) -> bytes:
        """
        Make a conversation, with its first items.

        @raise APIError: 400; 413, these are too large; 404, nothing is kept.
        """
        if not self._isKept:
            said = "This server keeps no conversations: send the whole history."
            raise APIError("unsupported_endpoint", said)
        account = accountOf(request)
        id, record, wanted = self._reader.newConversation(request.takeBody())
        items = () if wanted is None else await self._read(request, wanted)
        await self._store.put(account, id, record)
        if not await self._store.append(account, id, items):
            await self._store.remove(account, id)
            raise tooLarge("items")
        return self._reader.bodyOf(id, record)

    async def retrieve(self, request: Request, id: str) -> bytes:
        """
        Return a conversation.

        @raise APIError: 404.
        """
        return self._reader.bodyOf(id, await self._kept.conversation(accountOf(request), id))

    async def update(self, request: Request, id: str) -> bytes:
        """
        Give a conversation other metadata.

        @raise APIError: 404; 400.
        """
        account = accountOf(request)
        record = await self._kept.conversation(account, id)
        record = self._reader.changed(record, request.takeBody())
        await self._store.put(account, id, record)
        return self._reader.bodyOf(id, record)

    async def delete(self, request: Request, id: str) -> bytes:
        """
        Forget a conversation and its items. A response in it goes on, and the
        conversation is not made again by it.

        @raise APIError: 404.
        """
        account = accountOf(request)
        await self._kept.conversation(account, id)
        await self._store.remove(account, id)
        return self._reader.deletedBody(id)

    # Items.

    async def createItems(self, request: Request, id: str) -> bytes:
        """
        Add items to a conversation, and return them. One whose id is there
        already takes that one's place.

        @raise APIError: 404; 400; 413, the conversation would be too large.
        """
        account = accountOf(request)
        await self._kept.conversation(account, id)
        items = await self._read(request, self._reader.newItems(id, request.takeBody()))
        if not await self._store.append(account, id, items):
            await self._kept.conversation(account, id)
            raise tooLarge("items")
        return _page(items, False)

    async def _read(self, request: Request, wanted: ItemsWanted) -> Sequence[Entry]:
        items, ignored = wanted.read(await self._kept.lookUp(accountOf(request), wanted))
        if ignored:
            request.setHeader(b"x-hum-ignored", ",".join(ignored).encode())
        return items

    async def listItems(self, request: Request, id: str) -> bytes:
        """
        Return the items of a conversation, page by page.

        @raise APIError: 404; 400, the page is none.
        """
        query, account = queryOf(request), accountOf(request)
        isReversed, limit, after = isNewestFirst(query), limitOf(query), query.get("after")
        await self._kept.conversation(account, id)
        if after is not None and await self._store.item(account, id, after) is None:
            raise APIError("invalid_value", "There is no such item in this list.", param="after")
        found = await self._store.items(account, id, after=after, limit=limit + 1, newestFirst=isReversed)
        return _page(found[:limit], len(found) > limit)

    async def retrieveItem(self, request: Request, id: str, item: str) -> bytes:
        """
        Return one item.

        @raise APIError: 404.
        """
        account = accountOf(request)
        await self._kept.conversation(account, id)
        found = await self._store.item(account, id, item)
        if found is None:
            raise notFound(item, "Item")
        return found

    async def deleteItem(self, request: Request, id: str, item: str) -> bytes:
        """
        Forget one item, and return the conversation.

        @raise APIError: 404.
        """
        account = accountOf(request)
        record = await self._kept.conversation(account, id)
        if not await self._store.removeItem(account, id, item):
            raise notFound(item, "Item")
        return self._reader.bodyOf(id, record)


def _page(items: Sequence[Entry], hasMore: bool) -> bytes:
    return pageBody([msgspec.Raw(data) for _, data in items], [id for id, _ in items], hasMore)

# -*- test-case-name: tests.store.test_memory -*-
"""
What keeps records: bytes under an id, that may go on from another record, and
may have a list of items of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

#: An id with the bytes that are kept under it.
Entry: TypeAlias = "tuple[str, bytes]"


class RecordStore(Protocol):
    """
    Keeps records for accounts, none of which sees another's. It is bounded:
    the record that was used longest ago goes first, with its items.
    """

    def put(self, account: str, id: str, data: bytes, previous: str | None = None) -> Deferred[None]:
        """
        Keep a record, or another one under its id; the items of that stay, and
        its place among the others.

        @param previous: the id of the record that it goes on from.
        """

    def get(self, account: str, id: str) -> Deferred[bytes | None]:
        """
        Return a record; None when there is none.
        """

    def chain(self, account: str, id: str) -> Deferred[Sequence[bytes]]:
        """
        Return a record with all that it goes on from, the oldest first; nothing
        at all when one of them is gone.
        """

    def remove(self, account: str, id: str) -> Deferred[bool]:
        """
        Forget a record and its items.

        @return: whether there was one.
        """

    def records(
        self, account: str, prefix: str, *, after: str | None = None, limit: int, newestFirst: bool = False
    ) -> Deferred[Sequence[Entry]]:
        """
        Return records whose ids begin alike, in the order in which they were
        first kept.

        @param after: the id of the record behind which they begin, in the
            order asked for; nothing is returned where there is none of that id.
        @param limit: how many at most.
        """

    # Items.

    def append(self, account: str, id: str, items: Sequence[Entry]) -> Deferred[bool]:
        """
        Add items to the end of a record's list, all or none; one whose id is
        there already takes that one's place. The record counts as used.

        @return: whether they are kept: not where there is no such record, nor
            where all that may be kept has no room for it with these items,
            which leaves it as it was.
        """

    def items(
        self,
        account: str,
        id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        newestFirst: bool = False,
    ) -> Deferred[Sequence[Entry]]:
        """
        Return items of a record, in order; the record counts as used.

        @param after: the id of the item behind which they begin, in the order
            asked for; nothing is returned where there is none of that id.
        @param limit: how many at most; None for all.
        """

    def item(self, account: str, id: str, itemId: str) -> Deferred[bytes | None]:
        """
        Return one item; None when there is none.
        """

    def removeItem(self, account: str, id: str, itemId: str) -> Deferred[bool]:
        """
        Forget one item.

        @return: whether there was one.
        """

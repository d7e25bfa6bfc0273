# -*- test-case-name: tests.store.test_memory -*-
"""
What keeps records: bytes under an id, that may go on from another record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred


class RecordStore(Protocol):
    """
    Keeps records for accounts, none of which sees another's. It is bounded:
    the record that was used longest ago goes first.
    """

    def put(self, account: str, id: str, data: bytes, previous: str | None) -> Deferred[None]:
        """
        Keep a record, or another one under its id.

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
        Forget a record.

        @return: whether there was one.
        """

# -*- test-case-name: tests.web.test_elsewhere -*-
"""
Answers in the background, as the other processes that share the store know of
them: that there is one, and how to cancel it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.internet.defer import Deferred

from openai_server.store.interfaces import RecordStore, Store
from openai_server.store.membership import Membership

#: What other processes are told under.
_TOPIC: Final = "answer-cancelled"


class _Answer(msgspec.Struct, array_like=True):
    """
    Which answer is meant.
    """

    place: str
    id: str


class Elsewhere:
    """
    Shows the others what is made here, as far as it had come at first, and
    finds what is made there.
    """

    def __init__(self, store: Store, membership: Membership) -> None:
        self._records: RecordStore = store.records
        self._state = store.state
        self._membership = membership
        self._shown: set[tuple[str, str]] = set()
        self._leave: Callable[[], None] = lambda: None

    def start(self, cancel: Callable[[str, str], object]) -> None:
        """
        Begin to hear what others want to be cancelled.

        @param cancel: cancels an answer, if it is made here, by its place and id.
        """

        def heard(text: str | None) -> None:
            if text is not None:
                answer = msgspec.json.decode(text, type=_Answer)
                cancel(answer.place, answer.id)

        self._leave = self._state.hear(_TOPIC, heard)

    def stop(self) -> None:
        """
        Hear no more.
        """
        self._leave()

    def show(self, place: str, id: str, record: bytes) -> None:
        """
        Let others know of an answer that is made here.

        @param place: for whom the store keeps it.
        """
        self._shown.add((place, id))
        self._records.put(_running(place), id, self._membership.owner.encode() + b"\n" + record)
        # The client may ask another process at once.
        self._state.durable()

    def ended(self, place: str, id: str) -> None:
        """
        An answer is not made any more; its record was kept before, if any.
        """
        if (place, id) in self._shown:
            self._shown.remove((place, id))
            self._records.remove(_running(place), id)

    async def found(self, place: str, id: str) -> bytes | None:
        """
        Return the record of an answer that another process makes; None where
        none that lives does.
        """
        owner, _, record = (await self._records.get(_running(place), id) or b"").partition(b"\n")
        return record if owner and await self._membership.isAlive(owner.decode()) else None

    def cancel(self, place: str, id: str) -> Deferred[bool]:
        """
        Cancel an answer wherever it is made.

        @return: fires once the others are told.
        """
        self._state.tell(_TOPIC, msgspec.json.encode(_Answer(place, id)).decode())
        return self._state.durable()


def _running(place: str) -> str:
    return f"{place}/running"

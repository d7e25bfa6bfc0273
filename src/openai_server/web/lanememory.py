# -*- test-case-name: tests.web.test_lanememory -*-
"""
What a WebSocket connection knows of its responses that is kept nowhere else.

As OpenAI's guide "WebSocket mode" has it, a request may go on from the latest
response of a lane although it was not to be stored. That is kept in memory, as
long as the connection is open and no later response of its lane has taken its
place. It is forgotten, too, when a request of its own lane that goes on from it
fails; one of another lane leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openai_server.errors import APIError
from openai_server.web.bodybudget import BodyBudget, BodyShare


@dataclass(frozen=True)
class Remembered:
    """
    A response that a request may go on from.

    @ivar root: the id of the stored response which the first record goes on
        from; None where it goes on from none.
    @ivar records: its own record, and those before it that are not stored
        either, the oldest first.
    """

    id: str
    root: str | None
    records: Sequence[bytes]

    def followedBy(self, id: str, record: bytes) -> Remembered:
        """
        Return a response that goes on from this one.
        """
        return Remembered(id, self.root, [*self.records, record])


class LaneMemory:
    """
    The latest responses of the lanes of one connection, in so far as they are
    not stored.
    """

    def __init__(self, budget: BodyBudget) -> None:
        """
        @param budget: what all connections together may remember.
        """
        self._budget = budget
        self._lanes: dict[str | None, tuple[Remembered, BodyShare]] = {}

    def find(self, id: str | None) -> Remembered | None:
        """
        Return a response, of whatever lane.
        """
        return next((found for found, _ in self._lanes.values() if found.id == id), None)

    def replace(self, lane: str | None, latest: Remembered | None) -> None:
        """
        Remember the latest response of a lane, if there is room for it, and
        not the one before it.

        @param latest: None for one that is stored.
        """
        self._drop(lane)
        if latest is None:
            return
        share = self._budget.share()
        try:
            share.grow(sum(map(len, latest.records)))
        except APIError:
            # Its client is told when it asks, and can send everything again.
            return
        self._lanes[lane] = latest, share

    def forget(self, lane: str | None, id: str | None) -> None:
        """
        Forget a response, if it is the latest of this lane.
        """
        known = self._lanes.get(lane)
        if known is not None and known[0].id == id:
            self._drop(lane)

    def clear(self) -> None:
        """
        Forget everything.
        """
        for lane in list(self._lanes):
            self._drop(lane)

    def _drop(self, lane: str | None) -> None:
        known = self._lanes.pop(lane, None)
        if known is not None:
            known[1].release()

# -*- test-case-name: tests.store.test_memory -*-
"""
Records in this process's memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

#: Bytes that a record takes beside its data.
_OVERHEAD: Final = 512


@dataclass
class Bounds:
    """
    How much is kept.

    @ivar count: records; 0 for none.
    @ivar size: bytes of all together.
    @ivar age: seconds after which a record that was not used goes.
    """

    count: int
    size: int
    age: float


@dataclass
class _Kept:
    data: bytes
    previous: str | None
    used: float


class MemoryStore:
    """
    See L{openai_server.store.interfaces.RecordStore}.

    @ivar size: bytes of all records.
    """

    def __init__(self, clock: IReactorTime, bounds: Bounds) -> None:
        self.size = 0
        self._clock = clock
        self._bounds = bounds
        # The one that was used longest ago first.
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def __len__(self) -> int:
        """
        Return how many records there are.
        """
        return len(self._kept)

    def put(self, account: str, id: str, data: bytes, previous: str | None) -> Deferred[None]:
        """
        Keep a record, and forget those for which there is no room then.
        """
        self._forget((account, id))
        self._kept[account, id] = _Kept(data, previous, self._clock.seconds())
        self.size += len(data) + _OVERHEAD
        self._forgetOld()
        while self._kept and (len(self._kept) > self._bounds.count or self.size > self._bounds.size):
            self._forget(next(iter(self._kept)))
        return succeed(None)

    def get(self, account: str, id: str) -> Deferred[bytes | None]:
        """
        Return a record.
        """
        self._forgetOld()
        kept = self._kept.get((account, id))
        return succeed(None if kept is None else kept.data)

    def chain(self, account: str, id: str) -> Deferred[Sequence[bytes]]:
        """
        Return a record with all that it goes on from. All of them count as
        used: as long as a talk goes on its beginning is kept.
        """
        self._forgetOld()
        found: dict[str, _Kept] = {}
        at: str | None = id
        while at is not None:
            kept = self._kept.get((account, at))
            if kept is None or at in found:
                return succeed(())
            found[at] = kept
            at = kept.previous
        chain = list(reversed(found.items()))
        for each, kept in chain:
            self._kept.move_to_end((account, each))
            kept.used = self._clock.seconds()
        return succeed([kept.data for _, kept in chain])

    def remove(self, account: str, id: str) -> Deferred[bool]:
        """
        Forget a record.
        """
        self._forgetOld()
        return succeed(self._forget((account, id)))

    def _forgetOld(self) -> None:
        oldest = self._clock.seconds() - self._bounds.age
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if kept.used > oldest:
                return
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> bool:
        kept = self._kept.pop(key, None)
        if kept is None:
            return False
        self.size -= len(kept.data) + _OVERHEAD
        return True

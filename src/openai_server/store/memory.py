# -*- test-case-name: tests.store -*-
"""
Records in this process's memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from openai_server.store.interfaces import OVERHEAD, Bounds, Entry, isId


@dataclass
class _Kept:
    data: bytes
    previous: str | None
    used: float
    place: int
    items: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """
        Bytes that it takes.
        """
        items = sum([len(item) + OVERHEAD for item in self.items.values()])
        return len(self.data) + OVERHEAD + items


class MemoryStore:
    """
    See L{openai_server.store.interfaces.RecordStore}.

    @ivar size: bytes of all records.
    """

    def __init__(self, clock: IReactorTime, bounds: Bounds) -> None:
        self.size = 0
        self._clock = clock
        self._bounds = bounds
        self._places = count()
        # The one that was used longest ago first.
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def __len__(self) -> int:
        """
        Return how many records there are.
        """
        return len(self._kept)

    def put(self, account: str, id: str, data: bytes, previous: str | None = None) -> Deferred[None]:
        """
        Keep a record, and forget those for which there is no room then.
        """
        self.keep(account, id, data, previous)
        return succeed(None)

    def keep(self, account: str, id: str, data: bytes, previous: str | None) -> bool:
        """
        Do what L{put} does, at once.

        @return: whether there can be a record of this id.
        """
        if not isId(id):
            return False
        kept = self._used(account, id)
        if kept is None:
            kept = _Kept(data, previous, self._clock.seconds(), next(self._places))
            self._kept[account, id] = kept
            self.size += kept.size
        else:
            self.size += len(data) - len(kept.data)
            kept.data, kept.previous = data, previous
        self._makeRoomFor((account, id))
        return True

    def get(self, account: str, id: str) -> Deferred[bytes | None]:
        """
        Return a record.
        """
        kept = self._found(account, id)
        return succeed(None if kept is None else kept.data)

    def chain(self, account: str, id: str) -> Deferred[Sequence[bytes]]:
        """
        Return a record with all that it goes on from. All of them count as
        used: as long as a talk goes on its beginning is kept.
        """
        found: dict[str, _Kept] = {}
        at: str | None = id
        while at is not None:
            kept = self._found(account, at)
            if kept is None or at in found:
                return succeed(())
            found[at] = kept
            at = kept.previous
        chain = list(reversed(found))
        for each in chain:
            self._used(account, each)
        return succeed([found[each].data for each in chain])

    def remove(self, account: str, id: str) -> Deferred[bool]:
        """
        Forget a record and its items.
        """
        self._forgetOld()
        return succeed(self._forget((account, id)))

    def records(
        self, account: str, prefix: str, *, after: str | None = None, limit: int, newestFirst: bool = False
    ) -> Deferred[Sequence[Entry]]:
        """
        Return records whose ids begin alike.
        """
        self._forgetOld()
        found = [
            (kept.place, id, kept.data)
            for (owner, id), kept in self._kept.items()
            if owner == account and id.startswith(prefix)
        ]
        found.sort(reverse=newestFirst)
        return succeed(_behind([(id, data) for _, id, data in found], after, limit))

    # Items.

    def append(self, account: str, id: str, items: Sequence[Entry]) -> Deferred[bool]:
        """
        Add items to the end of a record's list.
        """
        kept = self._used(account, id) if all(isId(each) for each, _ in items) else None
        if kept is None:
            return succeed(False)
        grown = _Kept(kept.data, kept.previous, kept.used, kept.place, kept.items | dict(items))
        if grown.size > self._bounds.size:
            return succeed(False)
        self.size += grown.size - kept.size
        kept.items = grown.items
        self._makeRoomFor((account, id))
        return succeed(True)

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
        Return items of a record.
        """
        kept = self._used(account, id)
        if kept is None:
            return succeed(())
        found = list(kept.items.items())
        if newestFirst:
            found.reverse()
        return succeed(_behind(found, after, limit))

    def item(self, account: str, id: str, itemId: str) -> Deferred[bytes | None]:
        """
        Return one item.
        """
        kept = self._found(account, id)
        return succeed(None if kept is None else kept.items.get(itemId))

    def removeItem(self, account: str, id: str, itemId: str) -> Deferred[bool]:
        """
        Forget one item.
        """
        kept = self._found(account, id)
        if kept is None or itemId not in kept.items:
            return succeed(False)
        self.size -= len(kept.items.pop(itemId)) + OVERHEAD
        return succeed(True)

    # What there is room for.

    def _found(self, account: str, id: str) -> _Kept | None:
        self._forgetOld()
        return self._kept.get((account, id))

    def _used(self, account: str, id: str) -> _Kept | None:
        kept = self._found(account, id)
        if kept is not None:
            self._kept.move_to_end((account, id))
            kept.used = self._clock.seconds()
        return kept

    def _makeRoomFor(self, key: tuple[str, str]) -> None:
        if self._kept[key].size > self._bounds.size:
            self._forget(key)
        while self._kept and (len(self._kept) > self._bounds.count or self.size > self._bounds.size):
            self._forget(next(iter(self._kept)))

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
        self.size -= kept.size
        return True


def _behind(found: Sequence[Entry], after: str | None, limit: int | None) -> Sequence[Entry]:
    if after is None:
        return found[:limit]
    ids = [id for id, _ in found]
    if after not in ids:
        return ()
    start = ids.index(after) + 1
    return found[start:] if limit is None else found[start : start + limit]

# -*- test-case-name: tests.store.test_writebehind -*-
"""
The changes that wait to be written.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count, islice
from math import inf
from typing import Final

from openai_server.store.operations import Operation

#: Changes that are kept while none can be written, and their bytes. Of those
#: that somebody was to wait for, so many times more are.
MOST_UNSAVED: Final = 10_000
MOST_BYTES: Final = 64 * 2**20
_PROMISED: Final = 4


class UnsavedChanges:
    """
    Changes by their numbers, in order; of one key not more than needed.

    @ivar changes: all of them.
    @ivar size: their bytes.
    @ivar _latest: the number of the last change of each key.
    @ivar _looked: the number of the last change of each order that looks at all
        of it: those before it stay as they are.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self.changes: dict[int, Operation] = {}
        self.size = 0
        self._latest: dict[Hashable, int] = {}
        self._looked: dict[int, int] = {}

    @property
    def isTooMuch(self) -> bool:
        """
        Whether there is not room for all of them.
        """
        return len(self.changes) > MOST_UNSAVED or self.size > MOST_BYTES

    @property
    def first(self) -> float:
        """
        The lowest number; infinite when nothing waits.
        """
        return next(iter(self.changes), inf)

    @property
    def last(self) -> int:
        """
        The highest number.
        """
        return next(reversed(self.changes))

    def add(self, change: Operation) -> int:
        """
        Let a change wait, in the place of one that it replaces.

        @return: its number.
        """
        number = self._latest.get(change.key, -1)
        former = None if number < 0 else self.changes.get(number)
        if former is not None and not self._wasSeen(number, change) and change.replaces(former):
            change.isPromised |= former.isPromised
            change.mayBeWritten |= former.mayBeWritten
            self.size -= former.size
            former.isWaiting = False
        else:
            number = next(self._numbers)
            self._latest[change.key] = number
        if change.looksAtAll:
            self._looked[change.order] = number
        self.changes[number] = change
        self.size += change.size
        change.isWaiting = True
        return number

    def _wasSeen(self, number: int, change: Operation) -> bool:
        return number < self._looked.get(change.order, -1)

    def promise(self) -> None:
        """
        Note that somebody waits for all of them.
        """
        for change in self.changes.values():
            change.isPromised = True

    def take(self, most: int) -> dict[int, Operation]:
        """
        Take out the first ones.
        """
        if len(self.changes) <= most:
            taken, self.changes, self.size = self.changes, {}, 0
            self._latest.clear()
            for change in taken.values():
                change.isWaiting = False
            return taken
        taken = dict(islice(self.changes.items(), most))
        for number in taken:
            self._remove(number)
        return taken

    def putBack(self, taken: dict[int, Operation]) -> None:
        """
        Let those that were taken out wait again, before all others.
        """
        # The last one of a key counts, and what was added since before it.
        for number, change in reversed(taken.items()):
            self.size += change.size
            self._latest.setdefault(change.key, number)
            change.isWaiting = True
        self.changes = {**taken, **self.changes}

    def dropTooMany(self) -> list[int]:
        """
        Drop the oldest for which there is no room, and those that somebody
        waits for only when there are far too many.

        @return: the numbers of those that were dropped.
        """
        dropped: list[int] = []
        while self.isTooMuch:
            oldest = next((number for number, each in self.changes.items() if not each.isPromised), None)
            if oldest is None:
                if len(self.changes) <= _PROMISED * MOST_UNSAVED and self.size <= _PROMISED * MOST_BYTES:
                    break
                oldest = next(iter(self.changes))
            self._remove(oldest)
            dropped.append(oldest)
        return dropped

    def _remove(self, number: int) -> None:
        change = self.changes.pop(number)
        self.size -= change.size
        change.isWaiting = False
        if self._latest.get(change.key) == number:
            del self._latest[change.key]

# -*- test-case-name: tests.store.test_journal -*-
"""
Promises that are kept before the database has them: whoever waits until a
change of state outlasts the process need not wait for a commit.

The file beside the database has two halves, which take turns with the batches:
what is promised while one batch is written is in the other half. When a batch
is written, the half that it makes needless is cleared. What a process leaves
here when it is killed is the beginning of what the next one writes. The pages
of a file are the system's: they outlast this process, but no power cut.

    half  = generation (8 bytes, 0: cleared), entry, entry, ...
    entry = length (4 bytes), CRC-32 of generation and content (4), content
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Final
from zlib import crc32

import msgspec

from openai_server.store.operations import ForgetState, Operation, SaveState
from openai_server.store.recordchanges import RECORD, PutRecord, RemoveRecord
from openai_server.store.saved import KINDS

#: Bytes of a half.
HALF: Final = 256 * 1024
_generation: Final = Struct("<Q")
_head: Final = Struct("<II")
#: What the entry of a record that was removed has.
_REMOVED: Final = 2
_SEED: Final = 0xFFFFFFFF
_KINDS: Final = {kind.__name__: kind for kind in KINDS}


class Journal:
    """
    One such file.

    @ivar _fresh: the changes, by their numbers, that are neither here nor in
        the database.
    @ivar _keys: what the entries of each half change. A later change of the
        same has to be here before the database has it, or it would be undone
        at the next start.
    @ivar _needless: the halves that can be cleared when the next batch is
        written.
    @ivar _end: the place of the next entry in the current half; 0 while
        nothing can be added.
    @ivar _endBefore: the same before both halves became needless.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._fresh: dict[int, Operation] = {}
        self._keys: tuple[set[object], set[object]] = (set(), set())
        self._needless: Sequence[int] = ()
        self._current = 0
        self._end = 0
        self._endBefore = 0
        self._number = 0

    def open(self) -> list[Operation]:
        """
        Begin to take promises, once those are written that were left here.

        @return: those, in order.
        @raise OSError: there can be no such file.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = descriptor = os.open(self._path, flags, 0o600)
        # A full disk is to be met here, not later.
        os.posix_fallocate(descriptor, 0, 2 * HALF)
        data = os.pread(descriptor, 2 * HALF, 0)
        halves = sorted([_entriesIn(data[:HALF]), _entriesIn(data[HALF:])])
        # No generation is there twice: old entries behind the new ones must not count.
        self._number = max(time.time_ns(), halves[-1][0] + 1)
        left = [_changeFrom(entry) for _, entries in halves for entry in entries]
        found = [change for change in left if change is not None]
        self._end = 0 if found else _generation.size
        self._keys = ({change.key for change in found}, {change.key for change in found})
        return found

    def close(self) -> None:
        """
        Take no more promises.
        """
        descriptor, self._descriptor = self._descriptor, None
        self._end = 0
        if descriptor is not None:
            os.close(descriptor)

    def added(self, number: int, change: Operation) -> None:
        """
        Note a change that is to be written.
        """
        self._fresh[number] = change

    def dropped(self, numbers: Iterable[int]) -> None:
        """
        Note that these changes will not be written.
        """
        for number in numbers:
            self._fresh.pop(number, None)

    def promise(self) -> bool:
        """
        Let all changes up to now outlast the process, but for those that may
        be lost.

        @return: whether they do.
        """
        for change in self._fresh.values():
            change.isPromised = True
        isKept = self._add(self._fresh.values())
        if isKept:
            self._fresh.clear()
        return isKept

    def _add(self, changes: Iterable[Operation]) -> bool:
        if not self._end:
            return False
        entries = [(change.key, entry) for change in changes if (entry := change.entry) is not None]
        if not entries:
            return True
        seed = self._number & _SEED
        data = b"".join([_head.pack(len(entry), crc32(entry, seed)) + entry for _, entry in entries])
        if self._end + len(data) > HALF or not self._write(self._end, data):
            return False
        self._end += len(data)
        self._keys[self._current].update([key for key, _ in entries])
        return True

    def _write(self, at: int, data: bytes) -> bool:
        if at == _generation.size:
            at, data = 0, _generation.pack(self._number) + data
        return self._put(self._current * HALF + at, data)

    def _put(self, at: int, data: bytes) -> bool:
        try:
            return self._descriptor is not None and os.pwrite(self._descriptor, data, at) == len(data)
        except OSError:
            return False

    # Batches.

    def begun(self, isAll: bool) -> None:
        """
        Note that a batch is written next.

        @param isAll: whether all changes are in it.
        """
        keys = self._keys[0] | self._keys[1]
        later = [change for change in self._fresh.values() if change.key in keys]
        isThere = self._add(later)
        if not isAll or self._descriptor is None:
            return
        if self._keys[1 - self._current]:
            # A batch has failed, or is what was found here.
            self._needless = (0, 1)
            self._endBefore, self._end = self._end, 0
            return
        self._needless = (self._current,)
        self._turn()
        if not isThere:
            self._add(later)

    def failed(self) -> None:
        """
        Note that the database does not have the batch.
        """
        if len(self._needless) > 1:
            self._end = self._endBefore
        self._needless = ()

    def _turn(self) -> None:
        self._current = 1 - self._current
        self._number += 1
        self._end = _generation.size

    def written(self, numbers: Iterable[int]) -> None:
        """
        Note that the database has a batch, the first one that was not written.
        """
        self.dropped(numbers)
        needless, self._needless = self._needless, ()
        for half in needless:
            if self._put(half * HALF, bytes(_generation.size)):
                self._keys[half].clear()
        if not self._end and needless:
            self._turn()


def _entriesIn(half: bytes) -> tuple[int, list[bytes]]:
    """
    Return the generation of a half, and its entries up to one that is not
    whole.
    """
    number: int = _generation.unpack_from(half)[0]
    entries: list[bytes] = []
    at = _generation.size
    while number and at + _head.size < len(half):
        length, check = _head.unpack_from(half, at)
        entry = half[at + _head.size : at + _head.size + length]
        if not length or crc32(entry, number & _SEED) != check:
            break
        entries.append(entry)
        at += _head.size + length
    return number, entries


def _changeFrom(entry: bytes) -> Operation | None:
    """
    Return the change that an entry was made of; None where another version has
    made it.
    """
    try:
        name, content = msgspec.msgpack.decode(entry)
        if name == RECORD:
            return PutRecord(*content) if len(content) > _REMOVED else RemoveRecord(*content)
        kind: Any = _KINDS[name]
        return SaveState(kind(*content)) if isinstance(content, list) else ForgetState(kind, content)
    except (KeyError, TypeError, ValueError):
        return None

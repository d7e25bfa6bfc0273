# -*- test-case-name: tests.daemon.test_registry -*-
"""
The daemon's registry file: who is connected to it and which models they serve.

The daemon rewrites it (write and rename) on every hello and disconnect. It is
the only sign that a worker is gone. It may be absent, or another daemon's:
then nothing may be concluded from it.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.daemon.interfaces import Bee

#: Seconds between two looks at the file, at least.
PERIOD: Final = 0.25

#: Bytes beyond which the file is taken for broken.
_LARGEST: Final = 8 * 1024 * 1024

#: How many models are remembered as seen.
_MEMORY: Final = 1024


class FileRegistry(Service):
    """
    What stands in the file, which is read again when its time, size or inode
    changes. While it runs it looks four times a second, and no question costs a
    look; before and after, it looks whenever it is asked something a quarter of
    a second after its last look.

    @ivar version: equal as long as the file is the same; None without one.
    @ivar writtenAt: when it was written, in seconds of the wall clock.
    """

    def __init__(self, path: str, clock: IReactorTime) -> None:
        self._path = path
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._lookedAt = -PERIOD
        self.version: tuple[int, int, int] | None = None
        self.writtenAt = 0.0
        self._bees: tuple[Bee, ...] = ()
        self._models: tuple[str, ...] = ()
        self._isKnown = False
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._listeners: list[Callable[[], None]] = []

    def startService(self) -> None:
        """
        Look at the file now, and from now on.
        """
        super().startService()
        self._watch()

    def stopService(self) -> None:
        """
        Look no more.
        """
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    @property
    def isKnown(self) -> bool:
        """
        Whether the file is there and readable.
        """
        self._lookWhenOld()
        return self._isKnown

    def bees(self) -> Sequence[Bee]:
        """
        Return all bees that are registered, this one included.
        """
        self._lookWhenOld()
        return self._bees

    def models(self) -> Sequence[str]:
        """
        Return the ids of the models that are served, each once, in file order.
        """
        self._lookWhenOld()
        return self._models

    def hasSeen(self, model: str) -> bool:
        """
        Whether the model was in the file at some time since the start. The
        latest 1024 models are remembered.
        """
        self._lookWhenOld()
        return model in self._seen

    def onChange(self, changed: Callable[[], None]) -> None:
        """
        From now on, call this after each change.
        """
        self._listeners.append(changed)

    def look(self) -> None:
        """
        Read the file now, if it has changed, and tell who listens.
        """
        self._lookedAt = self._clock.seconds()
        version = self._signature()
        if version != self.version:
            self.version = version
            self.writtenAt = version[0] / 1e9 if version is not None else 0.0
            self._read()
            for changed in self._listeners:
                changed()

    def _watch(self) -> None:
        self._timer = self._clock.callLater(PERIOD, self._watch)
        self.look()

    def _lookWhenOld(self) -> None:
        if self._timer is None and self._clock.seconds() - self._lookedAt >= PERIOD:
            self.look()

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        # Whoever opens a FIFO waits for its other end.
        if not stat.S_ISREG(found.st_mode):
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> None:
        bees = beesFromFile(self._path) if self.version is not None else None
        self._isKnown = bees is not None
        self._bees = tuple(bees or ())
        self._models = tuple(dict.fromkeys(model for bee in self._bees for model in bee.models))
        for model in self._models:
            self._seen[model] = None
            self._seen.move_to_end(model)
        while len(self._seen) > _MEMORY:
            self._seen.popitem(last=False)


def beesFromFile(path: str) -> list[Bee] | None:
    """
    The bees in a registry file, or None when it cannot be read as one. What
    is odd within one bee's entry is left out.
    """
    try:
        with open(path, "rb", opener=_opened) as file:
            content = file.read(_LARGEST + 1)
        entries = msgspec.json.decode(content) if len(content) <= _LARGEST else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(entries, dict):
        return None
    return [_beeFrom(name, entry) for name, entry in entries.items() if isinstance(entry, dict)]


def _opened(path: str, flags: int) -> int:
    # Nobody waits for who would write to it, where it is a FIFO.
    return os.open(path, flags | os.O_NONBLOCK)


def _beeFrom(name: str, entry: dict[str, Any]) -> Bee:
    hid = entry.get("hid")
    return Bee(
        name=name,
        hid=hid if isinstance(hid, str) else "",
        models=_strings(entry.get("models")),
        tools=_toolNames(entry.get("tools")),
        provides=_strings(entry.get("provides")),
    )


def _strings(found: object) -> tuple[str, ...]:
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _toolNames(found: object) -> tuple[str, ...]:
    # Definitions, or bare names.
    if not isinstance(found, list):
        return ()
    return _strings([each.get("name") if isinstance(each, dict) else each for each in found])

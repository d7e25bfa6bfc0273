"""
The whole server in memory under load: what it and the daemon say to each other
comes in pieces of any size, and clients leave and read slowly in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from twisted.test.iosim import IOPump

from tests.support import SyncCase
from tests.world import World

#: Upper bounds of the sizes, in bytes, in which the daemon's output arrives.
SIZES: Final = (1, 7, 80, 500, 4000, 100_000)
#: Seconds that a line of the server's is on its way, at most.
HALT: Final = 1.0

_FINISH: Final = b'"chi":"finish"'
_SID: Final = re.compile(rb'"sid":"([^"]+)"')


class LoadedWorld(World):
    """
    A world in which reads of the daemon's socket end anywhere.

    @ivar onFinish: called with the sid of each C{finish}, right before and
        right after the read that brings the end of it.
    @ivar isHalting: what the server writes arrives in pieces too, one a turn,
        and whole within L{HALT} seconds.
    @ivar pauses: how often the server stopped reading from the daemon.
    """

    onFinish: Callable[[str, bool], None] = staticmethod(lambda sid, isRead: None)
    _chance: Random | None = None

    def __init__(self, test: SyncCase, chance: Random, **settings: Any) -> None:
        super().__init__(test, **settings)
        self.isHalting = False
        self.pauses = 0
        self._unsent = b""
        self._haltsUntil = 0.0
        for pump in self.endpoint.pumps:
            pump.clientIO.pauseProducing = self._paused
        self._chance = chance

    def _paused(self) -> None:
        self.pauses += 1

    def flush(self) -> None:
        """
        See L{World.flush}.
        """
        if self._chance is None:
            super().flush()
            return
        self._say()
        hasMoved = True
        while hasMoved:
            hasMoved = sum(self._pump(pump) for pump in self.endpoint.pumps) > 0
            self.runWires()

    def runWires(self) -> None:
        """
        A turn of the reactor for each client's connection.
        """
        for client in self.clients:
            client.wire.run()

    def turn(self, seconds: float) -> None:
        """
        Let time pass and bytes move; clients read nothing by themselves.
        """
        self.clock.advance(seconds)
        self.flush()
        self.runWires()

    def _say(self) -> None:
        # All that the server has written, or the beginning of it.
        pump = self.endpoint.pumps[-1]
        now = self.clock.seconds()
        if not self._unsent:
            self._haltsUntil = now + HALT
        self._unsent += pump.clientIO.getOutBuffer() or b""
        if self._unsent:
            size = len(self._unsent)
            isHalting = self.isHalting and now < self._haltsUntil
            end = self._chance.randint(1, size) if isHalting and self._chance is not None else size
            said, self._unsent = self._unsent[:end], self._unsent[end:]
            pump.serverIO.bufferReceived(said)

    def _pump(self, pump: IOPump) -> bool:
        said: bytes = pump.serverIO.getOutBuffer() or b""
        finishes = list(_finishes(said))
        for start, end in self._cuts(len(said)):
            sids = [sid for sid, at in finishes if start < at <= end]
            for sid in sids:
                self.onFinish(sid, False)
            pump.clientIO.bufferReceived(said[start:end])
            for sid in sids:
                self.onFinish(sid, True)
        if self.isHalting:
            self._unsent += pump.clientIO.getOutBuffer() or b""
        return bool(pump.pump()) or bool(said)

    def _cuts(self, length: int) -> Iterator[tuple[int, int]]:
        assert self._chance is not None
        start = 0
        while start < length:
            size = self._chance.randint(1, self._chance.choice(SIZES))
            # Without a bound, most of the time would go into single bytes.
            end = min(length, start + max(size, length // 50))
            yield start, end
            start = end


def _finishes(lines: bytes) -> Iterator[tuple[str, int]]:
    # Each with the offset of its end.
    at = lines.find(_FINISH)
    while at != -1:
        start, end = lines.rfind(b"\n", 0, at) + 1, lines.index(b"\n", at) + 1
        for sid in _SID.findall(lines[start:end]):
            yield sid.decode(), end
        at = lines.find(_FINISH, end)

# -*- test-case-name: tests.accounts.test_keywatch -*-
"""
Keeps the keys in memory as they are in the store, which a program of the
operator's changes at any time.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from openai_server.accounts.keyring import KeyRing
from openai_server.store.savedkeys import AccountStore

#: Seconds between two looks whether keys have changed: one number is read.
LOOK_SECONDS: Final = 1.0


class KeyWatch:
    """
    Looks for changed keys.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: AccountStore, ring: KeyRing) -> None:
        """
        @param ring: what is kept as the store's keys are, from now on.
        """
        self._clock = clock
        self._store = store
        self._ring = ring
        self._timer: IDelayedCall | None = None
        self._isRunning = False
        self._version: int | None = None
        if store.atStart is not None:
            self._version = store.atStart.version
            ring.replace(store.atStart.keys)

    def start(self) -> None:
        """
        Look again and again, where there can be keys.
        """
        if self._store.lasts:
            self._isRunning = True
            self._wait()

    def stop(self) -> None:
        """
        Look no more.
        """
        self._isRunning = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _wait(self) -> None:
        self._timer = self._clock.callLater(LOOK_SECONDS, self._due)

    def _due(self) -> None:
        self._timer = None
        looking = Deferred.fromCoroutine(self.look())
        looking.addErrback(lambda failure: self._log.failure("the keys could not be looked at", failure))
        looking.addCallback(self._looked)

    def _looked(self, _: object) -> None:
        if self._isRunning:
            self._wait()

    async def look(self) -> None:
        """
        Take the keys over if they have changed.
        """
        version = await self._store.version()
        if version is None or version == self._version:
            return
        table = await self._store.keys()
        if table is not None:
            self._version = table.version
            self._ring.replace(table.keys)
            self._log.info("the keys have changed: there are {count} now", count=len(self._ring))

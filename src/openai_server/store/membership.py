# -*- test-case-name: tests.store.test_membership -*-
"""
Which of the processes that share a store live.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from openai_server.store.interfaces import PROCESS, Store

#: Seconds after which the leases of a process that says nothing are free, and
#: between two times that it says something.
TTL: Final = 15.0
BEAT: Final = 5.0


class Membership(Service):
    """
    Says that this process lives, by a lease of its own, and renews all of its
    leases as long as it does. Where nobody shares the store there is nobody to
    tell.

    It starts after the store, and stops before it, when what was done under
    leases is done.

    @ivar owner: this process's name.
    @ivar run: the name of what this process does from this start on: of what
        its forerunners of the same name have begun nobody lives.
    """

    def __init__(self, store: Store, owner: str, clock: IReactorTime) -> None:
        """
        @param owner: no other process has the same name, and this one has it
            after a restart too.
        """
        self.owner = owner
        self.run = f"{owner}:{token_hex(8)}"
        self._store = store
        self._beat = LoopingCall(self._renew)
        self._beat.clock = clock

    def startService(self) -> None:
        """
        Say from now on that this process lives.
        """
        super().startService()
        if self._store.state.isShared:
            # Those of a forerunner that had no time to.
            self._store.state.releaseAll(self.owner)
            self._beat.start(BEAT)

    def stopService(self) -> Deferred[Any]:
        """
        Give all leases of this process back.
        """
        if not self.running:
            return succeed(None)
        super().stopService()
        if not self._store.state.isShared:
            return succeed(None)
        self._beat.stop()
        return self._store.state.releaseAll(self.owner)

    def isAlive(self, owner: str) -> Deferred[bool]:
        """
        Whether a process of this name lives, or the one that has this name for
        its run; each is thought to while the store cannot be asked.
        """
        state = self._store.state
        isOwn = owner in (self.owner, self.run)
        if isOwn or not state.isShared:
            return succeed(isOwn)
        found = state.holder(_leaseOf(owner))
        return found.addCallback(
            lambda holder: holder is not None or self._store.whyDegraded is not None
        )

    def _renew(self) -> None:
        # Not waited for: the store answers in time, and the next beat is due in any case.
        for name in (self.owner, self.run):
            self._store.state.acquire(_leaseOf(name), self.owner, TTL)
        self._store.state.renewAll(self.owner, TTL)


def _leaseOf(owner: str) -> str:
    return PROCESS + owner

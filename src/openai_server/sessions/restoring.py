# -*- test-case-name: tests.flow.test_restart -*-
"""
What an earlier process has left, brought back.

Sessions are remembered as soon as the store has given them. Parked turns are
gone on with once the daemon is reached: another daemon process than the one
that had them knows nothing of them, and for their calls it is too late.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.clock import Portions
from openai_server.sessions.adoption import Adoption, Surroundings
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.lasting import LastingSessions
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.sharedturns import SharedTurns
from openai_server.store.saved import SavedCall

#: Parked calls that are gone on with in one turn of the reactor.
CALLS_AT_ONCE: Final = 8


class Restoration:
    """
    Brings back what an earlier process has left, and leaves to the next one
    what that can go on with.

    @ivar shared: the turns of all processes, where there are others.
    """

    _log = Logger()

    def __init__(
        self,
        lasting: LastingSessions,
        turns: LastingTurns,
        around: Surroundings,
        adoption: Adoption,
        shared: SharedTurns | None = None,
    ) -> None:
        """
        @param shared: the turns of all processes, where there are others.
        """
        self.shared = shared
        self._lasting = lasting
        self._turns = turns
        self._around = around
        self._adoption = adoption
        self._isDone = False
        self._waiting: list[Deferred[None]] = []
        self._loading: Deferred[None] = succeed(None)

    def start(self) -> None:
        """
        Begin.
        """
        if self.shared is not None:
            self.shared.start()
        self._loading = Deferred.fromCoroutine(self._load())
        self._loading.addErrback(self._failed)
        self._loading.addCallback(lambda _: self._done())

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("what an earlier process has left could not be brought back", failure)

    def stop(self) -> None:
        """
        Leave the turns that are parked to the next process.
        """
        self._loading.cancel()
        if self.shared is not None:
            self.shared.stop()
        self._lasting.isStopped = self._turns.isStopped = True
        for owner in self._around.calls.owners:
            if isinstance(owner, Conversation) and owner.isParked:
                owner.letGo()

    def whenDone(self) -> Deferred[None] | None:
        """
        Return what fires when all is brought back that can be for now; None
        where there is nothing to wait for. The daemon is to be reached before.
        """
        if self._isDone:
            return None
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _done(self) -> None:
        self._isDone = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def _load(self) -> None:
        await self._around.memory.load()
        turns: dict[str, list[SavedCall]] = {}
        portions = Portions(self._around.clock, CALLS_AT_ONCE)
        for saved in await self._turns.calls():
            if saved.isOpen:
                turns.setdefault(saved.sid, []).append(saved)
            else:
                self._adoption.remember(saved)
            if (rest := portions.rest()) is not None:
                await rest
        if not turns and self.shared is None:
            return
        for each in turns.values():
            # Another daemon may be there in each turn of the reactor.
            incarnation = await self._around.daemon.whenReached()
            if self.shared is None:
                self._adoption.bringBack(each, incarnation)
            else:
                await self.shared.takeOver(each[0])
            if (rest := portions.rest()) is not None:
                await rest
        if self.shared is not None:
            await self._around.daemon.whenReached()
            await self.shared.adoptAbandoned()

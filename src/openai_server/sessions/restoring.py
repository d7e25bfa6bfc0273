# -*- test-case-name: tests.flow.test_restart -*-
"""
What an earlier process has left, brought back.

A start does not wait for that, but questions do: see L{Restoration.whenDone}.
Sessions are remembered as soon as the store has given them. Parked turns are
gone on with once their daemon is reached: another daemon process than the one
that had them knows nothing of them, and for their calls it is too late.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.clock import Portions
from openai_server.sessions.adoption import Adoption, Surroundings
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.lasting import LastingSessions
from openai_server.sessions.parkedturns import LastingTurns, following
from openai_server.sessions.sharedturns import SharedTurns
from openai_server.sessions.upstreams import Upstream
from openai_server.store.saved import SavedCall

#: Sessions, or parked turns, that are brought back in one turn of the reactor.
AT_ONCE: Final = 32


class Restoration:
    """
    Brings back what an earlier process has left, and leaves to the next one
    what that can go on with.

    @ivar shared: the turns of all processes, where there are others.
    @ivar _stages: what is under way, by the daemon that it needs.
    @ivar _waiting: calls of turns that are not yet gone on with, by their sids.
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
        self._stages: dict[Upstream | None, Deferred[None]] = {}
        self._waiting: dict[str, list[SavedCall]] = {}

    def start(self) -> None:
        """
        Begin.
        """
        if self.shared is not None:
            self.shared.forgo = self._forgo
            self.shared.start()
        self._begin(None, self._load())

    def _begin(self, upstream: Upstream | None, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """
        Begin what needs a daemon, or none.
        """
        stage = self._stages[upstream] = Deferred.fromCoroutine(work)
        stage.addErrback(self._failed)
        stage.addCallback(lambda _: self._ended(upstream))

    def _ended(self, upstream: Upstream | None) -> None:
        del self._stages[upstream]

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("what an earlier process has left could not be brought back", failure)

    def stop(self) -> None:
        """
        Leave the turns that are parked to the next process.
        """
        for stage in list(self._stages.values()):
            stage.cancel()
        if self.shared is not None:
            self.shared.stop()
        self._lasting.isStopped = self._turns.isStopped = True
        for owner in self._around.calls.owners:
            if isinstance(owner, Conversation) and owner.isParked:
                owner.letGo()

    def whenDone(self) -> Deferred[None] | None:
        """
        Return what fires when something is brought back that has to be waited
        for; None where nothing has to. What a daemon has that is away is not
        waited for.
        """
        for upstream, stage in self._stages.items():
            if upstream is None or upstream.isReachable:
                return following(stage)
        return None

    def _portions(self) -> Portions:
        return Portions(self._around.clock, AT_ONCE, self._around.onBroughtBack)

    async def _load(self) -> None:
        portions = self._portions()
        await self._around.memory.load(portions)
        for saved in await self._turns.calls():
            if saved.isOpen:
                self._waiting.setdefault(saved.sid, []).append(saved)
                continue
            self._adoption.remember(saved)
            if (rest := portions.rest()) is not None:
                await rest
        byUpstream: dict[Upstream | None, list[str]] = {}
        for sid, [saved, *_] in list(self._waiting.items()):
            byUpstream.setdefault(self._adoption.upstreamOf(saved), []).append(sid)
            if (rest := portions.rest()) is not None:
                await rest
        for sid in byUpstream.pop(None, ()):
            self._bring(sid)
            if (rest := portions.rest()) is not None:
                await rest
        for upstream in self._around.upstreams:
            if upstream in byUpstream or self.shared is not None:
                self._begin(upstream, self._bringAll(upstream, byUpstream.get(upstream, [])))

    async def _bringAll(self, upstream: Upstream, sids: Sequence[str]) -> None:
        """
        Go on with the turns of these sids, the last one first.
        """
        portions = self._portions()
        await upstream.daemon.whenReached()
        for sid in reversed(sids):
            self._bring(sid)
            if (rest := portions.rest()) is not None:
                await rest
                # Another daemon may be there in each turn of the reactor.
                await upstream.daemon.whenReached()
        if self.shared is not None:
            await self.shared.check()
            await self.shared.adoptAbandoned(upstream)

    def _bring(self, sid: str) -> None:
        # What was saved of it is not needed any more.
        calls = self._waiting.pop(sid, None)
        if calls is not None:
            self._adoption.bringBack(calls)

    def _forgo(self, sid: str) -> bool:
        return self._waiting.pop(sid, None) is not None

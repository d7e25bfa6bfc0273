# -*- test-case-name: tests.flow.test_processes -*-
"""
Parked turns that several processes share: at the same daemons, over one store.

Each has one owner, the process that its calls name in the store. One that is
brought a result of another's call makes itself the owner, attaches to the turn,
and tells the former owner, which lets go of it without a word of it to the
daemon, and says so: then the turn goes on, on the same worker. Whoever was not
told notices when it wants to say something to the model, and may not. The turns
of a process that is gone become those of any that lives, so that they end at
their deadlines.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from openai_server.clock import Timeouts
from openai_server.sessions.adoption import Adoption, Surroundings
from openai_server.sessions.calls import CallState, ParkedCall
from openai_server.sessions.chains import Transcript
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.ids import isPublicCallId
from openai_server.sessions.parkedturns import LastingTurns, following
from openai_server.sessions.strays import StrayCalls
from openai_server.sessions.upstreams import Upstream
from openai_server.store.interfaces import StateStore
from openai_server.store.saved import SavedCall
from openai_server.wire.tones import ToolCall

#: Seconds between two looks for turns of processes that are gone.
LOOK: Final = 5.0
#: Seconds for which the files of a turn are kept that another process has: a
#: turn does not last longer.
FILES_KEPT: Final = 3600.0


class SharedTurns:
    """
    Takes over turns, and lets go of those that others take.

    @ivar forgo: told the sid of each turn that is taken, here or elsewhere, so
        that a start does not bring it back; returns whether it would have.
    """

    _log = Logger()

    def __init__(
        self, state: StateStore, turns: LastingTurns, around: Surroundings, adoption: Adoption
    ) -> None:
        self._turns = turns
        self._around = around
        self._adoption = adoption
        self._strays = {
            each.name: StrayCalls(state, each.daemon, around.clock, turns.now) for each in around.upstreams
        }
        # Two requests of one client may bring results at once.
        self._taking = DeferredLock()
        self._looking = LoopingCall(self._look)
        self._looking.clock = around.clock
        self._files = Timeouts(around.clock, FILES_KEPT)
        self.forgo: Callable[[str], bool] = lambda sid: False
        turns.onLost = self._leave

    def start(self) -> None:
        """
        Listen, and look.
        """
        self._turns.handovers.onTaken = self._onTaken
        self._turns.handovers.start()
        for strays in self._strays.values():
            strays.start()
        self._looking.start(LOOK, now=False)

    def stop(self) -> None:
        """
        Neither take anything nor hear of it.
        """
        self._turns.onLost = None
        self._turns.handovers.stop()
        if self._looking.running:
            self._looking.stop()
        for strays in self._strays.values():
            strays.stop()
        self._files.stop()

    # Taking.

    async def bring(self, account: str, transcript: Transcript) -> None:
        """
        Take over the turn that a request has to do with, if this process does
        not have it.
        """
        saved = await self._callOf(account, transcript)
        if saved is None or saved.account != account:
            return
        if saved.isOpen:
            await self.takeOver(saved)
        elif self._around.calls.find(account, saved.publicId) is None:
            self._adoption.remember(saved)

    async def _callOf(self, account: str, transcript: Transcript) -> SavedCall | None:
        entries = transcript.entries
        start = len(entries)
        while start and entries[start - 1].role != "assistant":
            start -= 1
        results = [entry for entry in entries[start:] if entry.role == "tool"]
        named = [entry.resultFor for entry in results if entry.resultFor is not None]
        said = entries[start - 1].calls if start else ()
        for publicId in reversed((*said, *named)):
            if isPublicCallId(publicId):
                isKnown = self._around.calls.find(account, publicId) is not None
                return None if isKnown else await self._turns.call(publicId)
        if not start or len(named) == len(results):
            return None
        asked = transcript.digestBefore(start - 1)
        isKnown = any(self._around.calls.withoutId(account, entry.name or "", asked) for entry in results)
        return None if isKnown else await self._turns.callWithoutId(account, asked)

    def takeOver(self, saved: SavedCall, isAbandoned: bool = False) -> Deferred[None]:
        """
        Go on with the turn of this call, if nobody else is quicker.

        @param isAbandoned: whether its owner is gone, and cannot let go.
        @return: fires when that is so, or not. What is begun is not cancelled.
        """
        taking = self._taking.run(lambda: Deferred.fromCoroutine(self._takeOver(saved, isAbandoned)))
        taking.addErrback(lambda failure: self._log.failure("a turn could not be taken over", failure))
        return following(taking)

    async def _takeOver(self, saved: SavedCall, isAbandoned: bool) -> None:
        upstream = self._adoption.upstreamOf(saved)
        isHere = upstream is not None and upstream.hasTurn(saved.incarnation)
        if saved.owner != self._turns.owner and not isHere:
            # Only its owner can know whether it is too late.
            return
        isLive = upstream is not None and upstream.daemon.isLive(saved.sid)
        if isLive or self._turns.isStopped:
            return
        calls = await self._turns.own(saved)
        if calls and not self._turns.isStopped:
            self.forgo(saved.sid)
            self._adoption.bringBack(calls)
            if saved.owner != self._turns.owner and not isAbandoned:
                # Not before: one of them has to list the names of the tools.
                self._turns.handovers.taken(saved.sid)

    async def adoptAbandoned(self, upstream: Upstream) -> None:
        """
        Take over the turns that processes which are gone had at a daemon.
        """
        incarnation = upstream.daemon.incarnation
        if not upstream.isReachable or not incarnation:
            return
        abandoned = await self._turns.abandoned(incarnation)
        for saved in {(each.sid, each.owner): each for each in abandoned}.values():
            await self.takeOver(saved, isAbandoned=True)

    def _look(self) -> Deferred[None]:
        looking = Deferred.fromCoroutine(self._lookAtAll())
        return looking.addErrback(
            lambda failure: self._log.failure("abandoned turns could not be looked for", failure)
        )

    async def _lookAtAll(self) -> None:
        for upstream in self._around.upstreams:
            await self.adoptAbandoned(upstream)

    # Letting go.

    def _onTaken(self, sid: str | None) -> None:
        if sid is None:
            checking = Deferred.fromCoroutine(self.check())
            checking.addErrback(
                lambda failure: self._log.failure("it was not looked for turns that others have", failure)
            )
            return
        if self.forgo(sid):
            self._turns.handovers.left(sid)
        for conversation in self._parked():
            if conversation.context.sid == sid and not self._turns.isTaking(conversation):
                self._leave(conversation)

    async def check(self) -> None:
        """
        Let go of what others have: this process may not have been told.
        """
        for conversation in await self._turns.lost(self._parked()):
            if conversation.isParked:
                self._leave(conversation)

    def _parked(self) -> list[Conversation]:
        owners = self._around.calls.owners
        return [owner for owner in owners if isinstance(owner, Conversation) and owner.isParked]

    def _leave(self, conversation: Conversation) -> None:
        around = self._around
        # They may have come when the turn was another's already.
        kept = [_toneFrom(call) for call in conversation.openCalls if call.state is CallState.KEPT]
        conversation.letGo()
        around.calls.left(conversation)
        around.memory.lost(conversation.context.session)
        around.upstreams.having(conversation.context.session).daemon.tidy()
        self._turns.handovers.left(conversation.context.sid)
        around.onLeft(conversation.context)
        if conversation.onLeft is not None:
            self._files.begin(conversation.onLeft)
        for tone in kept:
            self._strays[conversation.context.session.upstream].passOn(tone)


def _toneFrom(call: ParkedCall) -> ToolCall:
    args: Any = call.arguments
    with suppress(msgspec.MsgspecError):
        args = msgspec.json.decode(call.arguments)
    return ToolCall(sid=call.sid, callId=call.callId, toolName=call.wireName, args=args)

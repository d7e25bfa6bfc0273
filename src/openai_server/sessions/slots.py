# -*- test-case-name: tests.sessions.test_slots -*-
"""
Places for turns: how many a worker runs for this server, and who waits.

A worker is meant to run 8 sessions, and a second worker for the same model
adds none. So each pool (see L{openai_server.sessions.pools}) has that many
slots, for live and parked turns. A request that finds none waits in a line
that is short, fair between accounts and left after a short time. With its slot
a request may still have to wait at the L{Gate}, first come first served: there
nobody overtakes, or a stream of prompts with the same tools would hold up one
with other tools for ever. The gate waits only for turns that have started,
never for one that waits, so nothing here can wait in a circle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred, fail

from openai_server.clock import Clock, Deadline
from openai_server.errors import APIError
from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.gate import Gate
from openai_server.sessions.waiting import FairLine, Waiter

#: Seconds after which a request that was turned away may ask again.
RETRY_AFTER: Final = 5
#: Pools that are kept while nothing happens in them.
IDLE_POOLS: Final = 64


@dataclass(frozen=True)
class Limits:
    """
    How many, and how long, for each pool.

    @ivar maxTurns: slots; 0 for no limit.
    @ivar queueLength: how many may wait for a slot; where slots have no limit,
        for the gate.
    @ivar queueTimeout: seconds that a request waits for a slot.
    @ivar gateTimeout: seconds that a request with its slot waits for turns
        with other tools.
    @ivar drainSlot: seconds that a draining turn holds its slot.
    """

    maxTurns: int = 8
    queueLength: int = 32
    queueTimeout: float = 30.0
    gateTimeout: float = 120.0
    drainSlot: float = 30.0


class Slot:
    """
    A turn's place in its worker.

    @ivar hiddenNames: names of this server's tools that the worker may still
        have in its list and that this turn's model must not see.
    """

    def __init__(self, pool: _Pool, catalogue: Catalogue | None) -> None:
        self.hiddenNames: tuple[str, ...] = ()
        self._pool = pool
        self._catalogue = catalogue
        self._drain: Deadline | None = None
        self._isReleased = False

    def showedLife(self) -> None:
        """
        The turn has shown C{session-ready} or a chunk. Once is enough, more
        do no harm.
        """
        if not self._isReleased:
            self._pool.showedLife(self, self._catalogue)

    def drain(self) -> None:
        """
        Nobody wants the turn any more, but its worker still runs it: hold the
        slot for it, though not for long.
        """
        if not self._isReleased and self._drain is None:
            self._drain = self._pool.draining(self)

    def release(self) -> None:
        """
        The turn is over, or was never asked. The first time counts.
        """
        if self._isReleased:
            return
        self._isReleased = True
        if self._drain is not None:
            self._drain.cancel()
        self._pool.released(self)


_Request: TypeAlias = Waiter[Slot, Catalogue | None]


class Slots:
    """
    The slots of all pools.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._pools: dict[str, _Pool] = {}
        self._isStopped = False

    def acquire(self, pool: str, account: str, catalogue: Catalogue | None) -> Deferred[Slot]:
        """
        A slot for a turn with these tools. The prompt has to go out as soon as
        it is there: the gate counts from that moment. Cancelling the Deferred
        leaves the line.

        @return: fires with the L{Slot}, at once when there is one and the gate
            is open. Fails with an L{APIError}: C{line_full} when too many wait
            or the wait was too long, C{shutting_down}.
        """
        if self._isStopped:
            return fail(_stopping())
        found = self._pools.get(pool)
        if found is None:
            self._forgetIdle()
            found = self._pools[pool] = _Pool(self._clock, self._limits)
        return found.acquire(account, catalogue)

    @property
    def taken(self) -> int:
        """
        Slots in use, those of requests at the gate among them.
        """
        return sum(pool.taken for pool in self._pools.values())

    @property
    def waiting(self) -> int:
        """
        Requests that wait for a slot or at a gate.
        """
        return sum(pool.waiting for pool in self._pools.values())

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later.
        """
        self._isStopped = True
        for pool in self._pools.values():
            pool.stop()

    def _forgetIdle(self) -> None:
        # Pools come and go with the workers of the registry.
        if len(self._pools) > IDLE_POOLS:
            self._pools = {name: pool for name, pool in self._pools.items() if pool.taken or pool.waiting}


class _Pool:
    """
    One pool.

    @ivar taken: slots in use, those of requests at the gate among them.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self.taken = 0
        self._clock = clock
        self._limits = limits
        self._line: FairLine[Slot, Catalogue | None] = FairLine()
        self._gate = Gate(clock)
        self._atGate: deque[_Request] = deque()
        self._gateTimer: Deadline | None = None
        self._draining: set[Slot] = set()
        self._isMoving = False

    @property
    def waiting(self) -> int:
        return len(self._line) + len(self._atGate)

    def acquire(self, account: str, catalogue: Catalogue | None) -> Deferred[Slot]:
        request: _Request = Waiter(self._clock, account, catalogue, self._leave)
        limits = self._limits
        if limits.maxTurns and self.taken >= limits.maxTurns:
            self._wait(request)
        elif not limits.maxTurns and self._isFullAtGate(catalogue):
            request.turnAway(_lineFull())
        else:
            self._advance(request)
        return request.deferred

    def _isFullAtGate(self, catalogue: Catalogue | None) -> bool:
        mustWait = bool(self._atGate) or not self._gate.isOpenFor(catalogue)
        return mustWait and len(self._atGate) >= self._limits.queueLength

    def _wait(self, request: _Request) -> None:
        if len(self._line) >= self._limits.queueLength:
            last = self._line.lastOfLongest(request.account)
            (request if last is None else last).turnAway(_lineFull())
            if last is None:
                return
        request.limit(self._limits.queueTimeout, _waitedTooLong)
        self._line.join(request)

    def _advance(self, request: _Request) -> None:
        self.taken += 1
        self._atGate.append(request)
        self._move()
        if request in self._atGate:
            request.limit(self._limits.gateTimeout, _waitedTooLong)

    def _move(self) -> None:
        # Whoever is given a slot may release it, or ask for another, at once.
        if self._isMoving:
            return
        self._isMoving = True
        while self._atGate and self._gate.isOpenFor(self._atGate[0].wanted):
            self._start(self._atGate.popleft())
        self._isMoving = False
        self._watchGate()

    def _start(self, request: _Request) -> None:
        slot = Slot(self, request.wanted)
        slot.hiddenNames = self._gate.started(slot, request.wanted)
        request.give(slot)

    def _watchGate(self) -> None:
        if self._gateTimer is not None:
            self._gateTimer.cancel()
            self._gateTimer = None
        if self._atGate:
            self._gateTimer = Deadline(self._clock, self._gate.secondsShut(), self._move)

    def _leave(self, request: _Request) -> None:
        if not self._line.leave(request) and request in self._atGate:
            self._atGate.remove(request)
            self._freed()

    def showedLife(self, slot: Slot, catalogue: Catalogue | None) -> None:
        self._gate.showedLife(slot, catalogue)
        if self._atGate:
            self._move()

    def draining(self, slot: Slot) -> Deadline:
        self._draining.add(slot)
        self._gate.gone(slot)
        self._move()
        return Deadline(self._clock, self._limits.drainSlot, slot.release)

    def released(self, slot: Slot) -> None:
        self._draining.discard(slot)
        self._gate.gone(slot)
        self._freed()

    def _freed(self) -> None:
        # The one place where a slot becomes free.
        self.taken -= 1
        following = self._line.next()
        if following is None:
            self._move()
        else:
            self._advance(following)

    def stop(self) -> None:
        while (waiter := self._line.next()) is not None:
            waiter.turnAway(_stopping())
        while self._atGate:
            self._atGate[0].turnAway(_stopping())
        for slot in list(self._draining):
            slot.release()


def _lineFull() -> APIError:
    return APIError("line_full", "Too many requests are waiting for this model.", retryAfter=RETRY_AFTER)


def _waitedTooLong() -> APIError:
    return APIError("line_full", "The model had no free place in time.", retryAfter=RETRY_AFTER)


def _stopping() -> APIError:
    return APIError("shutting_down", "The server is shutting down.", retryAfter=RETRY_AFTER)

# -*- test-case-name: tests.sessions.test_slots -*-
"""
One pool: its slots, the line for them, and the gate behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from twisted.internet.interfaces import IReactorTime

from openai_server import constants
from openai_server.clock import Deadline
from openai_server.errors import APIError, shuttingDown
from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.gate import Gate
from openai_server.sessions.hiding import MAX_ARGUMENT
from openai_server.sessions.waiting import FairLine, Waiter

#: Seconds after which a request that was turned away may ask again.
RETRY_AFTER: Final = 5


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
    @ivar hiddenRoom: bytes for the names of tools that are hidden from one
        model.
    """

    maxTurns: int = 8
    queueLength: int = 32
    queueTimeout: float = 30.0
    gateTimeout: float = 120.0
    hiddenRoom: int = MAX_ARGUMENT


class Slot:
    """
    A turn's place in its worker.

    @ivar model: what the turn is asked of.
    @ivar pool: whose slot it is; another one when models come to share workers.
    @ivar hiddenNames: names of this server's tools that the worker may still
        have in its list and that this turn's model must not see.
    """

    def __init__(self, request: Request) -> None:
        self.model = request.model
        self.pool = request.pool
        self.hiddenNames: tuple[str, ...] = ()
        self._catalogue = request.wanted
        self._drain: Deadline | None = None
        self._isReleased = False

    def showedLife(self) -> None:
        """
        The turn has shown C{session-ready} or a chunk. Once is enough, more
        do no harm.
        """
        if not self._isReleased:
            self.pool.showedLife(self, self._catalogue)

    @property
    def isDraining(self) -> bool:
        """
        Nobody wants the turn any more.
        """
        return self._drain is not None

    def drain(self) -> None:
        """
        Nobody wants the turn any more, but its worker still runs it: hold the
        slot for it, though not for long.
        """
        if not self._isReleased and self._drain is None:
            self._drain = self.pool.draining(self)

    def release(self) -> None:
        """
        The turn is over, or was never asked. The first time counts.
        """
        if self._isReleased:
            return
        self._isReleased = True
        if self._drain is not None:
            self._drain.cancel()
        self.pool.released(self)


class Request(Waiter[Slot, Catalogue | None]):
    """
    Somebody who waits for a slot. What is wanted are the tools.

    @ivar model: what the turn will be asked of.
    @ivar pool: where it waits; another one when models come to share workers.
    """

    def __init__(
        self, clock: IReactorTime, account: str, model: str, catalogue: Catalogue | None, pool: Pool
    ) -> None:
        super().__init__(clock, account, catalogue, lambda _: self.pool.left(self))
        self.model = model
        self.pool = pool


class Pool:
    """
    The turns of models that share a worker.
    """

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._slots: dict[Slot, None] = {}
        self._line: FairLine[Request] = FairLine()
        self._gate = Gate(clock, limits.hiddenRoom)
        self._atGate: deque[Request] = deque()
        self._gateTimer: Deadline | None = None
        self._isMoving = False

    @property
    def taken(self) -> int:
        """
        Slots in use, those of requests at the gate among them.
        """
        return len(self._slots) + len(self._atGate)

    @property
    def waiting(self) -> int:
        """
        Requests that wait for a slot or at the gate.
        """
        return len(self._line) + len(self._atGate)

    @property
    def isMoving(self) -> bool:
        """
        Somebody is being given a slot now.
        """
        return self._isMoving

    def enter(self, request: Request) -> None:
        """
        Give this request a slot, let it wait for one, or turn it away.
        """
        if not self._hasFree:
            self._wait(request)
        elif not self._limits.maxTurns and self._isFullAtGate(request.wanted):
            request.turnAway(_lineFull())
        else:
            self._advance(request)

    @property
    def _hasFree(self) -> bool:
        return not self._limits.maxTurns or self.taken < self._limits.maxTurns

    def _isFullAtGate(self, catalogue: Catalogue | None) -> bool:
        mustWait = bool(self._atGate) or not self._gate.isOpenFor(catalogue)
        return mustWait and len(self._atGate) >= self._limits.queueLength

    def _wait(self, request: Request) -> None:
        if len(self._line) >= self._limits.queueLength:
            last = self._line.lastOfLongest(request.account)
            (request if last is None else last).turnAway(_lineFull())
            if last is None:
                return
        request.limit(self._limits.queueTimeout, _waitedTooLong)
        self._line.join(request)

    def _advance(self, request: Request) -> None:
        self._atGate.append(request)
        self._move()
        if request in self._atGate:
            request.limit(self._limits.gateTimeout, _waitedTooLong)

    def _move(self) -> None:
        # Whoever is given a slot may release it, or ask for another, at once.
        if self._isMoving:
            return
        self._isMoving = True
        try:
            while self._atGate and self._gate.isOpenFor(self._atGate[0].wanted):
                self._start(self._atGate.popleft())
        finally:
            # A mistake with one request must not hold up the others for ever.
            self._isMoving = False
            self._watchGate()

    def _start(self, request: Request) -> None:
        slot = Slot(request)
        self._slots[slot] = None
        try:
            slot.hiddenNames = self._gate.started(slot, request.wanted)
        except Exception:
            slot.release()
            raise
        request.give(slot)

    def _watchGate(self) -> None:
        self._stopTimer()
        if self._atGate:
            self._gateTimer = Deadline(self._clock, self._gate.secondsShut(), self._move)

    def _stopTimer(self) -> None:
        if self._gateTimer is not None:
            self._gateTimer.cancel()
            self._gateTimer = None

    def left(self, request: Request) -> None:
        """
        This one waits no longer.
        """
        if not self._line.leave(request) and request in self._atGate:
            self._atGate.remove(request)
            self._freed()

    def showedLife(self, slot: Slot, catalogue: Catalogue | None) -> None:
        """
        The process of this turn has read its worker's list of tools.
        """
        self._gate.showedLife(slot, catalogue)
        if self._atGate:
            self._move()

    def draining(self, slot: Slot) -> Deadline:
        """
        Nobody wants this turn any more.

        @return: what releases its slot.
        """
        self._gate.gone(slot)
        self._move()
        return Deadline(self._clock, constants.DRAIN_SLOT, slot.release)

    def released(self, slot: Slot) -> None:
        """
        This turn is over.
        """
        del self._slots[slot]
        self._gate.gone(slot)
        self._freed()

    def _freed(self) -> None:
        # The one place where a slot becomes free.
        following = self._line.next() if self._hasFree else None
        if following is None:
            self._move()
        else:
            self._advance(following)

    def stop(self) -> None:
        """
        Turn away everybody who waits, and hold no slots for draining turns.
        """
        for request in self._line.emptied():
            request.turnAway(shuttingDown())
        while self._atGate:
            self._atGate[0].turnAway(shuttingDown())
        for slot in [slot for slot in self._slots if slot.isDraining]:
            slot.release()

    # When models come to share workers, or no longer do.

    def handOver(self, poolOf: Callable[[str], Pool]) -> None:
        """
        Turns and requests go to the pools of their models now.
        """
        self._stopTimer()
        for slot in self._slots:
            slot.pool = poolOf(slot.model)
            slot.pool._slots[slot] = None
        for request in self._atGate:
            request.pool = poolOf(request.model)
            request.pool._atGate.append(request)
        for request in self._line.emptied():
            request.pool = poolOf(request.model)
            request.pool._line.join(request)

    def inherit(self, former: Iterable[Pool]) -> None:
        """
        All that these hand over is here: their gates' knowledge comes too.

        @param former: the pools that this one's models were in.
        """
        self._gate.inherit([pool._gate for pool in former], self._slots)

    def proceed(self) -> None:
        """
        Let on whom there is place for now.
        """
        while self._hasFree and (following := self._line.next()) is not None:
            self._advance(following)
        self._move()


def _lineFull() -> APIError:
    return APIError("line_full", "Too many requests are waiting for this model.", retryAfter=RETRY_AFTER)


def _waitedTooLong() -> APIError:
    return APIError("line_full", "The model had no free place in time.", retryAfter=RETRY_AFTER)

# -*- test-case-name: tests.sessions.test_scheduler -*-
"""
One pool: its slots, the line for them, and the barrier behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from openai_server.clock import Timeout, Timeouts
from openai_server.sessions.catalogue import Catalogue
from openai_server.sessions.catalogue.wirenames import NamedTools, PromptTools
from openai_server.sessions.waiting import FairLine, Waiter, lineFull, waitedTooLong


@dataclass(frozen=True)
class Limits:
    """
    How many, and how long, for each pool.

    @ivar maxTurns: slots; 0 for no limit.
    @ivar queueLength: how many may wait for a slot; where slots have no limit,
        at the barrier.
    @ivar queueTimeout: seconds that a request waits for a slot.
    """

    maxTurns: int = 8
    queueLength: int = 32
    queueTimeout: float = 30.0


class Slot:
    """
    A turn's place in its worker.

    @ivar model: what the turn is asked of.
    @ivar pool: whose slot it is; another one when models come to share workers.
    @ivar tools: what its prompt offers; None for nothing.
    @ivar hiddenNames: names of this server's tools that the worker may still
        have in its list and that this turn's model must not see.
    """

    __slots__ = ("_drain", "_isReleased", "hiddenNames", "model", "pool", "tools")

    def __init__(self, pool: Pool, model: str) -> None:
        self.model = model
        self.pool = pool
        self.tools: NamedTools | None = None
        self.hiddenNames: Sequence[str] = ()
        self._drain: Timeout | None = None
        self._isReleased = False

    def showedLife(self) -> None:
        """
        Note that the turn has shown C{session-ready} or a chunk. Once is
        enough, more do no harm.
        """
        if not self._isReleased:
            self.pool.showedLife(self)

    def sawOthers(self, names: Sequence[str]) -> None:
        """
        Note tools that the turn's model sees, and that somebody else has put
        into its worker's list.
        """
        if not self._isReleased:
            self.pool.sawOthers(names)

    @property
    def isDraining(self) -> bool:
        """
        Whether nobody wants the turn any more.
        """
        return self._drain is not None

    def drain(self) -> None:
        """
        Hold the slot for a turn that nobody wants any more while its worker
        still runs it, though not for long.
        """
        if not self._isReleased and self._drain is None:
            self._drain = self.pool.draining(self)

    def release(self) -> None:
        """
        Give the slot back: the turn is over, or was never asked. The first
        time counts.
        """
        if self._isReleased:
            return
        self._isReleased = True
        if self._drain is not None:
            self._drain.cancel()
        self.pool.released(self)


class SlotRequest(Waiter[Slot, "PromptTools | None"]):
    """
    Somebody who waits for a slot. What is wanted are the tools.

    @ivar model: what the turn will be asked of.
    @ivar pool: where it waits; another one when models come to share workers.
    """

    __slots__ = ("model", "pool")

    def __init__(self, pool: Pool, account: str, model: str, tools: PromptTools | None) -> None:
        super().__init__(account, tools, _left)
        self.model = model
        self.pool = pool


class Pool:
    """
    The turns of models that share a worker.
    """

    def __init__(self, limits: Limits, catalogue: Catalogue, queueTimes: Timeouts, drains: Timeouts) -> None:
        """
        @param queueTimes: limits of waits for a slot.
        @param drains: how long slots are held for draining turns.
        """
        self._limits = limits
        self._queueTimes = queueTimes
        self._drains = drains
        self._isStopped = False
        self._slots: dict[Slot, None] = {}
        self._line: FairLine[SlotRequest] = FairLine()
        self._barrier = catalogue.barrier(self._start)

    def change(self, limits: Limits, queueTimes: Timeouts) -> None:
        """
        Let other limits hold: for turns that run already, and for requests that
        wait, too; but a wait that has begun lasts as long as it was to.
        """
        self._limits = limits
        self._queueTimes = queueTimes
        self.proceed()

    @property
    def taken(self) -> int:
        """
        The number of slots in use, those of requests at the barrier among them.
        """
        return len(self._slots) + len(self._barrier.waiting)

    @property
    def waiting(self) -> int:
        """
        The number of requests that wait for a slot or at the barrier.
        """
        return len(self._line) + len(self._barrier.waiting)

    @property
    def load(self) -> int:
        """
        The number of turns, and of requests that wait.
        """
        return self.taken + len(self._line)

    @property
    def isFull(self) -> bool:
        """
        Whether all slots are in use.
        """
        return 0 < self._limits.maxTurns <= self.taken

    @property
    def isMoving(self) -> bool:
        """
        Whether somebody is being given a slot now.
        """
        return self._barrier.isMoving

    def take(self, model: str, tools: PromptTools | None) -> Slot | None:
        """
        Return a slot for a turn that can start now; None when it has to wait.
        """
        limit = self._limits.maxTurns
        isFull = limit and len(self._slots) + len(self._barrier.waiting) >= limit
        return None if isFull or not self._barrier.isOpenFor(tools) else self._begin(model, tools)

    def hold(self, model: str, tools: NamedTools | None) -> Slot:
        """
        Return a slot for a turn that runs already.
        """
        slot = Slot(self, model)
        slot.tools = tools
        self._slots[slot] = None
        return slot

    def enter(self, request: SlotRequest) -> None:
        """
        Let a request wait that L{take} had nothing for.

        @raise APIError: C{line_full}, too many wait.
        """
        limits = self._limits
        if self.isFull:
            self._wait(request)
        elif not limits.maxTurns and len(self._barrier.waiting) >= limits.queueLength:
            raise lineFull()
        else:
            self._barrier.wait(request)

    def _wait(self, request: SlotRequest) -> None:
        if len(self._line) >= self._limits.queueLength:
            last = self._line.lastOfLongest(request.account)
            if last is None:
                raise lineFull()
            last.turnAway(lineFull())
        request.limit(self._queueTimes, waitedTooLong)
        self._line.join(request)

    def _begin(self, model: str, tools: PromptTools | None) -> Slot:
        slot = Slot(self, model)
        self._slots[slot] = None
        try:
            slot.tools, slot.hiddenNames = self._barrier.started(slot, tools)
        except Exception:
            slot.release()
            raise
        return slot

    def _start(self, request: SlotRequest) -> None:
        request.give(self._begin(request.model, request.wanted))

    def left(self, request: SlotRequest) -> None:
        """
        Note that this one waits no longer.
        """
        if not self._line.leave(request) and self._barrier.leave(request):
            self._freed()

    def showedLife(self, slot: Slot) -> None:
        """
        Note that the process of this turn has read its worker's list of tools.
        """
        self._barrier.showedLife(slot)

    def sawOthers(self, names: Sequence[str]) -> None:
        """
        Note tools that somebody else has put into the worker's list.
        """
        self._barrier.sawOthers(names)

    def draining(self, slot: Slot) -> Timeout | None:
        """
        Note that nobody wants this turn any more.

        @return: what releases its slot; None when that is done.
        """
        if self._isStopped:
            slot.release()
            return None
        self._barrier.gone(slot)
        self._barrier.move()
        return self._drains.begin(slot.release)

    def released(self, slot: Slot) -> None:
        """
        Note that this turn is over.
        """
        del self._slots[slot]
        self._barrier.gone(slot)
        if self._line or self._barrier.waiting:
            self._freed()

    def _freed(self) -> None:
        # The one place where a slot becomes free.
        following = self._line.next() if not self.isFull else None
        if following is None:
            self._barrier.move()
        else:
            self._barrier.wait(following)

    def emptied(self) -> Iterable[SlotRequest]:
        """
        Take out everybody who waits.
        """
        return [*self._barrier.emptied(), *self._line.emptied()]

    def stop(self) -> None:
        """
        Hold no slots for draining turns from now on.
        """
        self._isStopped = True
        for slot in [slot for slot in self._slots if slot.isDraining]:
            slot.release()

    # When models come to share workers, or no longer do.

    def handOver(self, poolOf: Callable[[str], Pool]) -> None:
        """
        Let turns and requests go to the pools of their models now.
        """
        for slot in self._slots:
            slot.pool = poolOf(slot.model)
            slot.pool._slots[slot] = None
        for request in self._barrier.emptied():
            request.pool = poolOf(request.model)
            request.pool._barrier.waiting.append(request)
        for request in self._line.emptied():
            request.pool = poolOf(request.model)
            request.pool._line.join(request)

    def inherit(self, former: Sequence[Pool]) -> None:
        """
        Take over what the barriers of these pools know, when all that they
        hand over is here.

        @param former: the pools that this one's models were in.
        """
        self._barrier.inherit([pool._barrier for pool in former], self._slots)

    def proceed(self) -> None:
        """
        Let on whom there is place for now.
        """
        while not self.isFull and (following := self._line.next()) is not None:
            self._barrier.wait(following)
        self._barrier.move()


def _left(request: SlotRequest) -> None:
    request.pool.left(request)

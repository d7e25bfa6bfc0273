# -*- test-case-name: tests.sessions.test_scheduler -*-
"""
Places for turns: how many a worker runs for this server, and who waits.

A worker is meant to run 8 sessions, and a second worker for the same model
adds none. So each pool of models that share a worker has that many slots, for
live and parked turns. A request that finds none waits in a line that is short,
fair between accounts and left after a short time. With its slot a request may
still have to wait at the L{barrier<openai_server.sessions.catalogue.barrier>},
first come first served.

Turns and requests belong to models, and with them to pools: when workers come
or go, all are counted anew where their models are then.

Workers that have a model in common count as one: the daemon always asks the
same one of them (seen with humd 0.31.18), and which one that is cannot be
known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server import constants
from openai_server.clock import Timeouts
from openai_server.daemon.interfaces import Bee, Registry
from openai_server.errors import shuttingDown
from openai_server.sessions.catalogue import Catalogue
from openai_server.sessions.catalogue.wirenames import NamedTools, PromptTools
from openai_server.sessions.pool import Limits, Pool, Slot, SlotRequest

#: The pool of all models that no known worker serves: without a registry file, of all.
ELSEWHERE: Final = ""
#: Models that are remembered when nobody serves them any more.
MAX_GONE: Final = 1024


class Scheduler:
    """
    The slots of all pools.

    @ivar _models: the pool of each model, as turns and requests are counted.
    @ivar _byName: pools that have been used.
    """

    def __init__(self, clock: IReactorTime, limits: Limits, registry: Registry, catalogue: Catalogue) -> None:
        self._clock = clock
        self._limits = limits
        self._catalogue = catalogue
        self._sharing = SharedWorkers(registry)
        self._queueTimes = Timeouts(clock, limits.queueTimeout)
        self._formerTimes: list[Timeouts] = []
        self._drains = Timeouts(clock, constants.DRAIN_SLOT)
        self._models: Mapping[str, str] = {}
        self._byName: dict[str, Pool] = {}
        self._isStopped = False

    def change(self, limits: Limits) -> None:
        """
        Let other limits hold from now on.
        """
        if limits.queueTimeout != self._limits.queueTimeout:
            self._formerTimes = [each for each in (*self._formerTimes, self._queueTimes) if len(each)]
            self._queueTimes = Timeouts(self._clock, limits.queueTimeout)
        self._limits = limits
        for pool in list(self._byName.values()):
            pool.change(limits, self._queueTimes)

    def acquire(self, model: str, account: str, tools: PromptTools | None) -> Slot | Deferred[Slot]:
        """
        Take a slot for a turn of this model with these tools. The prompt has
        to go out as soon as it is there: the barrier counts from that moment.

        @return: the L{Slot} when there is one and the barrier is open; else a
            Deferred that fires with it, or fails with an L{APIError}:
            C{line_full} when the wait is too long, C{shutting_down}.
            Cancelling it leaves the line.
        @raise APIError: C{line_full} when too many wait, C{shutting_down}.
        """
        if self._isStopped:
            raise shuttingDown()
        self._follow()
        pool = self._byName.get(self._models.get(model, ELSEWHERE)) or self._poolOf(model)
        slot = pool.take(model, tools)
        if slot is not None:
            return slot
        request = SlotRequest(pool, account, model, tools)
        pool.enter(request)
        return request.deferred

    def hold(self, model: str, tools: NamedTools | None) -> Slot:
        """
        Return a slot for a turn that runs already, however many there are.

        @param tools: what its worker knows.
        """
        self._follow()
        return self._poolOf(model).hold(model, tools)

    def load(self, model: str) -> tuple[bool, int]:
        """
        Return whether a turn of this model had to wait for a slot now, and how
        many turns and requests are counted with it.
        """
        self._follow()
        pool = self._byName.get(self._models.get(model, ELSEWHERE))
        return (False, 0) if pool is None else (pool.isFull, pool.load)

    @property
    def taken(self) -> int:
        """
        The number of slots in use, those of requests at a barrier among them.
        """
        return sum(pool.taken for pool in self._byName.values())

    @property
    def waiting(self) -> int:
        """
        The number of requests that wait for a slot or at a barrier.
        """
        return sum(pool.waiting for pool in self._byName.values())

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later; hold no slots
        for draining turns.
        """
        self._isStopped = True
        pools = list(self._byName.values())
        # All are taken out before the first is told: nobody may be given what
        # another one leaves.
        waiting = [request for pool in pools for request in pool.emptied()]
        for request in waiting:
            request.turnAway(shuttingDown())
        for pool in pools:
            pool.stop()
        for times in (*self._formerTimes, self._queueTimes):
            times.stop()
        self._drains.stop()
        self._catalogue.stop()

    def _follow(self) -> None:
        models = self._sharing.current()
        # While somebody is being given a slot, this can wait for the next request.
        if models is not self._models and not any(pool.isMoving for pool in self._byName.values()):
            self._regroup(models)

    def _poolOf(self, model: str) -> Pool:
        name = self._models.get(model, ELSEWHERE)
        found = self._byName.get(name)
        if found is None:
            found = Pool(self._limits, self._catalogue, self._queueTimes, self._drains)
            self._byName[name] = found
        return found

    def _regroup(self, models: Mapping[str, str]) -> None:
        before, former = self._models, self._byName
        self._models, self._byName = models, {}
        for pool in former.values():
            pool.handOver(self._poolOf)
        # What a worker's list may hold counts though nothing runs there.
        heirs: dict[Pool, dict[Pool, None]] = {}
        for model in dict.fromkeys((ELSEWHERE, *before, *models)):
            old = former.get(before.get(model, ELSEWHERE))
            if old is not None:
                heirs.setdefault(self._poolOf(model), {})[old] = None
        for pool, inherited in heirs.items():
            pool.inherit(tuple(inherited))
        for pool in heirs:
            pool.proceed()


class SharedWorkers:
    """
    The pool of each model, worked out once for each state of the daemon's
    registry file. The name of a pool says nothing from one state to the next.

    A model that has gone stays with those that it shared a worker with:
    workers come back after a restart of the daemon, and a turn that was asked
    before, or while they were away, is to be counted with those that are asked
    then. So it is with all of them when the file itself is gone.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._bees: Sequence[Bee] = ()
        self._pools: Mapping[str, str] = {}

    def current(self) -> Mapping[str, str]:
        """
        Return the pool of each model, the same object until it is another one
        for some model. Models that are not in it are L{ELSEWHERE}.
        """
        bees = self._registry.bees()
        if bees is not self._bees and self._registry.isKnown:
            isSame, self._bees = tuple(bees) == tuple(self._bees), bees
            if not isSame:
                self._follow(poolsFrom(bees))
        return self._pools

    def _follow(self, found: Mapping[str, str]) -> None:
        followed = {**_gone(self._pools, found), **found}
        if followed != self._pools:
            self._pools = followed


def poolsFrom(bees: Iterable[Bee]) -> dict[str, str]:
    """
    Return the pool of each model: the smallest model id that can be reached from it
    over workers that serve both.
    """
    leaders: dict[str, str] = {}
    for bee in bees:
        for model in bee.models:
            _join(leaders, bee.models[0], model)
    return {model: _leader(leaders, model) for model in leaders}


def _join(leaders: dict[str, str], one: str, other: str) -> None:
    first, second = sorted((_leader(leaders, one), _leader(leaders, other)))
    leaders[second] = first


def _leader(leaders: dict[str, str], model: str) -> str:
    above = leaders.setdefault(model, model)
    while above != model:
        # Each step halves the way of the next search.
        leaders[model] = leaders[above]
        model, above = above, leaders[above]
    return model


def _gone(before: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    # Where models belong that were there before: to the first that is left of
    # their pool, if any is.
    heirs: dict[str, str] = {}
    for model, pool in before.items():
        if model in found:
            heirs.setdefault(pool, found[model])
    gone = [(model, heirs.get(pool, pool)) for model, pool in before.items() if model not in found]
    return dict(gone[-MAX_GONE:])

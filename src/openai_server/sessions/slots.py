# -*- test-case-name: tests.sessions.test_slots -*-
"""
Places for turns: how many a worker runs for this server, and who waits.

A worker is meant to run 8 sessions, and a second worker for the same model
adds none. So each pool (see L{openai_server.sessions.pools}) has that many
slots, for live and parked turns. A request that finds none waits in a line
that is short, fair between accounts and left after a short time. With its slot
a request may still have to wait at the L{Gate
<openai_server.sessions.gate.Gate>}, first come first served: there nobody
overtakes, or a stream of prompts with the same tools would hold up one with
other tools for ever. The gate waits only for turns that have started, never
for one that waits, so nothing here can wait in a circle.

Turns and requests belong to models, and with them to pools: when workers come
or go, all are counted anew where their models are then.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from openai_server.errors import shuttingDown
from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.pool import Limits, Pool, Request, Slot
from openai_server.sessions.pools import ELSEWHERE, Pools


class Slots:
    """
    The slots of all pools.

    @ivar _models: the pool of each model, as turns and requests are counted.
    @ivar _byName: pools that have been used.
    """

    def __init__(self, clock: IReactorTime, limits: Limits, pools: Pools) -> None:
        self._clock = clock
        self._limits = limits
        self._pools = pools
        self._models: Mapping[str, str] = {}
        self._byName: dict[str, Pool] = {}
        self._isStopped = False

    def acquire(self, model: str, account: str, catalogue: Catalogue | None) -> Deferred[Slot]:
        """
        A slot for a turn of this model with these tools. The prompt has to go
        out as soon as it is there: the gate counts from that moment.
        Cancelling the Deferred leaves the line.

        @return: fires with the L{Slot}, at once when there is one and the gate
            is open. Fails with an L{APIError}: C{line_full} when too many wait
            or the wait was too long, C{shutting_down}.
        """
        if self._isStopped:
            return fail(shuttingDown())
        self._followPools()
        pool = self._poolOf(model)
        request = Request(self._clock, account, model, catalogue, pool)
        pool.enter(request)
        return request.deferred

    @property
    def taken(self) -> int:
        """
        Slots in use, those of requests at the gate among them.
        """
        return sum(pool.taken for pool in self._byName.values())

    @property
    def waiting(self) -> int:
        """
        Requests that wait for a slot or at a gate.
        """
        return sum(pool.waiting for pool in self._byName.values())

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later.
        """
        self._isStopped = True
        for pool in self._byName.values():
            pool.stop()

    def _poolOf(self, model: str) -> Pool:
        name = self._models.get(model, ELSEWHERE)
        found = self._byName.get(name)
        if found is None:
            found = self._byName[name] = Pool(self._clock, self._limits)
        return found

    def _followPools(self) -> None:
        models = self._pools.current()
        # While somebody is being given a slot, this can wait for the next request.
        if models is not self._models and not any(pool.isMoving for pool in self._byName.values()):
            self._regroup(models)

    def _regroup(self, models: Mapping[str, str]) -> None:
        before, former = self._models, self._byName
        self._models, self._byName = models, {}
        for pool in former.values():
            pool.handOver(self._poolOf)
        # What a worker's list may hold counts though nothing runs there.
        heirs: dict[Pool, set[Pool]] = {}
        for model in {ELSEWHERE, *before, *models}:
            old = former.get(before.get(model, ELSEWHERE))
            if old is not None:
                heirs.setdefault(self._poolOf(model), set()).add(old)
        for pool, inherited in heirs.items():
            pool.inherit(inherited)
        for pool in heirs:
            pool.proceed()

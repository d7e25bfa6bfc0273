# -*- test-case-name: tests.sessions.test_upstreams -*-
"""
The daemons that this server asks, and which of them a turn gets.

A session stays with its daemon, which alone knows it. A fresh one goes to a
daemon that is reached and serves the model: to one with a free slot if any has
one, and among those to the one that has the least to do for its weight. Most
servers ask one daemon, and then there is nothing to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from openai_server.daemon.interfaces import Bee, Daemon, Registry
from openai_server.errors import APIError
from openai_server.sessions.catalogue import Catalogue
from openai_server.sessions.contexts import ToolSet
from openai_server.sessions.plans import Session, SessionKind, SessionPlan
from openai_server.sessions.pool import Limits
from openai_server.sessions.scheduler import Scheduler

#: The name of a daemon that is the only one, and has no other.
UNNAMED: Final = ""


class NamedDaemon(msgspec.Struct, frozen=True):
    """
    A daemon as the settings have it.

    @ivar weight: its share of what is new, above 0.
    """

    daemon: Daemon
    name: str = UNNAMED
    weight: float = 1.0


class Upstream:
    """
    One daemon with what is counted of its workers: their slots and their lists
    of tools.
    """

    def __init__(self, named: NamedDaemon, clock: IReactorTime, limits: Limits, room: int) -> None:
        """
        @param room: see L{Catalogue}.
        """
        daemon = self.daemon = named.daemon
        self.name = named.name
        self.weight = named.weight
        self.catalogue = Catalogue(clock, room, lambda: daemon.liveTools)
        self.scheduler = Scheduler(clock, limits, daemon.registry, self.catalogue)

    @property
    def isReachable(self) -> bool:
        """
        Whether prompts can be asked.
        """
        return self.daemon.whyNotReady is None

    def hasTurn(self, incarnation: str) -> bool:
        """
        Whether a turn of this daemon process is one of the daemon's that was
        reached last.
        """
        return bool(incarnation) and incarnation == self.daemon.incarnation

    def mayServe(self, model: str) -> bool:
        """
        Whether a worker serves the model, or that cannot be known.
        """
        registry = self.daemon.registry
        return not registry.isKnown or model in registry.models()

    def load(self, model: str) -> tuple[bool, float]:
        """
        Return what one more turn of this model would find, to be compared:
        whether it had to wait for a slot, and how much there would be to do for
        the weight.
        """
        isFull, number = self.scheduler.load(model)
        return isFull, (number + 1) / self.weight


class Upstreams:
    """
    All daemons, one at least.

    @ivar registry: what the registries of all say.
    """

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._all = tuple(upstreams)
        self._only = self._all[0] if len(self._all) == 1 else None
        self._byName = {each.name: each for each in self._all}
        if self._only is not None:
            # What was saved when it had no name is its.
            self._byName[UNNAMED] = self._only
        registries = [each.daemon.registry for each in self._all]
        self.registry: Registry = registries[0] if self._only is not None else JoinedRegistries(registries)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._all)

    # Whether they are there.

    @property
    def whyNotReady(self) -> str | None:
        """
        None when one of them can be asked; else a short reason for the operator.
        """
        if self._only is not None:
            return self._only.daemon.whyNotReady
        away = self.away()
        isAnyThere = len(away) < len(self._all)
        return None if isAnyThere else "; ".join(f"{name}: {why}" for name, why in away.items())

    def away(self) -> dict[str, str]:
        """
        Return why each that cannot be asked cannot be, by its name.
        """
        whys = [(each.name, each.daemon.whyNotReady) for each in self._all]
        return {name: why for name, why in whys if why is not None}

    async def reach(self, upstreams: Sequence[Upstream] = ()) -> None:
        """
        Try to reach now those of these, or of all, that are away.

        @raise APIError: all of them stay away.
        """
        wanted = upstreams or self._all
        for tried in [each.daemon.whenTried() for each in wanted if not each.isReachable]:
            if tried is not None:
                await tried
        if not any(each.isReachable for each in wanted):
            raise APIError("daemon_unavailable", "The daemon is not connected.", retryAfter=1)

    # Which of them.

    def named(self, name: str) -> Upstream | None:
        """
        Return the one of this name; None where there is none any more.
        """
        return self._byName.get(name)

    def having(self, session: Session) -> Upstream:
        """
        Return the one that has a turn of this session.
        """
        return self._byName[session.upstream]

    def canGoOn(self, session: Session) -> bool:
        """
        Whether what is said in this session now reaches its worker. Of a daemon
        that is the only one it is taken for granted: without it nothing can be
        asked at all.
        """
        found = self._byName.get(session.upstream)
        return found is not None and (found is self._only or found.isReachable)

    async def forPlan(self, plan: SessionPlan, model: str) -> Upstream:
        """
        Return the one to ask.

        @raise APIError: C{daemon_unavailable}, those that could be asked are
            away.
        """
        if self._only is not None:
            return self._only
        if plan.kind is SessionKind.CONTINUED:
            return self.having(plan.session)
        able = self._able(model)
        reachable = [each for each in able if each.isReachable]
        if not reachable:
            await self.reach(able)
            reachable = [each for each in able if each.isReachable]
        return min(reachable, key=lambda each: each.load(model))

    def isAnotherOneWanted(self, upstream: Upstream, plan: SessionPlan) -> bool:
        """
        Whether the one that was chosen for a plan went away before it was asked,
        and another one may do as well.
        """
        isFresh = plan.kind is not SessionKind.CONTINUED
        return isFresh and self._only is None and not upstream.isReachable

    def _able(self, model: str) -> Sequence[Upstream]:
        """
        Return those that serve a model, else those that did, else all: workers
        elsewhere in the mesh need not be in the registry file.
        """
        return (
            [each for each in self._all if each.mayServe(model)]
            or [each for each in self._all if each.daemon.registry.hasSeen(model)]
            or self._all
        )

    # The slots of all.

    def check(self, tools: ToolSet, param: str) -> None:
        """
        See L{Catalogue.check}.
        """
        self._all[0].catalogue.check(tools, param)

    @property
    def taken(self) -> int:
        """
        The number of slots in use: see L{Scheduler.taken}.
        """
        return sum(each.scheduler.taken for each in self._all)

    @property
    def waiting(self) -> int:
        """
        The number of requests that wait: see L{Scheduler.waiting}.
        """
        return sum(each.scheduler.waiting for each in self._all)

    def change(self, limits: Limits) -> None:
        """
        Let other limits hold from now on, for each.
        """
        for each in self._all:
            each.scheduler.change(limits)

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later.
        """
        for each in self._all:
            each.scheduler.stop()


class JoinedRegistries:
    """
    What several registry files say together. Those that cannot be read add
    nothing.
    """

    def __init__(self, registries: Sequence[Registry]) -> None:
        self._registries = tuple(registries)
        self._read: Sequence[Sequence[Bee]] = ()
        self._bees: Sequence[Bee] = ()

    @property
    def isKnown(self) -> bool:
        """
        Whether all can be read.
        """
        return all(each.isKnown for each in self._registries)

    def bees(self) -> Sequence[Bee]:
        """
        Return the bees of all, the same object until some other one is there.
        """
        read = [each.bees() for each in self._registries]
        if list(map(id, read)) != list(map(id, self._read)):
            self._read, self._bees = read, tuple(bee for bees in read for bee in bees)
        return self._bees

    def models(self) -> Sequence[str]:
        """
        Return the models of all, each once.
        """
        return tuple(dict.fromkeys(model for each in self._registries for model in each.models()))

    def hasSeen(self, model: str) -> bool:
        """
        Whether the model was in any of the files at some time since the start.
        """
        return any(each.hasSeen(model) for each in self._registries)

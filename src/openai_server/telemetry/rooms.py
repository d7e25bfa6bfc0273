# -*- test-case-name: tests.telemetry.test_rooms -*-
"""
What the rooms know of themselves, read when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import openai_server
from openai_server.daemon.link import Link
from openai_server.metrics import MOMENTS, Counters, Distribution
from openai_server.store.interfaces import Store
from openai_server.telemetry.families import Current, Distributed, Family, Growing, Values
from openai_server.web.front import WebFront

#: Counts of the link's that are of tones which reached nobody.
_DROPPED: Final = {"late_tones": "late", "foreign_tones": "foreign"}
#: Calls whose results the daemon would drop.
_UNROUTABLE: Final = "unrouted_calls"
#: States of turns that are one here: the worker is at work.
_LIVE: Final = ("asked", "running")


@dataclass
class RoomFigures:
    """
    The rooms of one server.

    @ivar slotLimit: slots of each worker; 0 for as many as there are turns.
    """

    counters: Counters
    links: Sequence[Link]
    store: Store
    front: WebFront
    slotLimit: int

    def families(self) -> Iterator[Family]:
        """
        Yield what all of them know.
        """
        yield _one("openai_server_info", "the version that runs", 1, version=openai_server.__version__)
        yield from self._ofTurns()
        yield from self._ofConnections()
        yield from self._ofDaemon()
        yield from self._ofStore()
        yield self._durations(
            "openai_server_loop_lag_seconds", "seconds by which the event loop was late", "loop_lag"
        )
        yield self._events()

    def _ofTurns(self) -> Iterator[Family]:
        states = _sum(link.turnStates() for link in self.links)
        submitter = self.front.submitter
        memory, upstreams = submitter.memory, submitter.upstreams
        turns = {
            "live": sum(states.get(name, 0) for name in _LIVE),
            **{name: states.get(name, 0) for name in ("parked", "settling", "draining")},
            "queued": upstreams.waiting,
        }
        yield Current(
            "openai_server_turns_now",
            "turns by state; queued ones wait for a slot",
            ("state",),
            {(state,): number for state, number in turns.items()},
        )
        yield _one("openai_server_slots_taken", "slots in use", upstreams.taken)
        yield _one("openai_server_slots_limit", "slots of each worker; 0 is no limit", self.slotLimit)
        yield Current(
            "openai_server_sessions",
            "sessions that a request may go on with, and requests that wait for one that is busy",
            ("state",),
            {("idle",): memory.idle, ("awaited",): memory.waiting},
        )

    def _ofConnections(self) -> Iterator[Family]:
        site = self.front.site
        yield _one("openai_server_connections", "connections that clients have open", site.openConnections)
        yield _one("openai_server_open_requests", "requests that are being answered", site.openResponses)

    def _ofDaemon(self) -> Iterator[Family]:
        names = ("daemon",) if len(self.links) > 1 else ()
        yield Current(
            "openai_server_daemon_connected",
            "whether prompts can be asked: 0 or 1",
            names,
            {(link.daemonName,) if names else (): link.whyNotReady is None for link in self.links},
        )
        counts = self._counts()
        yield Growing(
            "openai_server_daemon_connections",
            "how often the daemon was reached: the first time, and each time again",
            series={(): sum(link.connections for link in self.links)},
        )
        dropped: dict[Values, float] = {(reason,): counts[name] for name, reason in _DROPPED.items()}
        badTones = _sum(link.badTones for link in self.links)
        dropped |= {(reason,): number for reason, number in badTones.items()}
        yield Growing(
            "openai_server_tones_dropped",
            "tones of the daemon's that were dropped: late, somebody else's, or not to be read",
            ("reason",),
            dropped,
        )
        yield Growing(
            "openai_server_unroutable_calls",
            "tool calls whose results the daemon would give to nobody",
            series={(): counts[_UNROUTABLE]},
        )

    def _ofStore(self) -> Iterator[Family]:
        store = self.store
        yield _one(
            "openai_server_store_degraded",
            "whether what is to last is in memory only for now: 0 or 1",
            store.whyDegraded is not None,
        )
        yield _one("openai_server_store_unsaved", "changes that are not written yet", store.unsaved)
        series = {(kind,): self._taken(f"store_{kind}") for kind in ("read", "write")}
        yield Distributed(
            "openai_server_store_duration_seconds",
            "seconds that the database took",
            ("operation",),
            MOMENTS,
            {values: found for values, found in series.items() if found is not None},
        )

    def _events(self) -> Family:
        """
        Return all other counters under one name.
        """
        known = {*_DROPPED, _UNROUTABLE}
        series: dict[Values, float] = {
            (name, ""): number for name, number in self._counts().items() if name not in known
        }
        for name, labels in self.counters.snapshot().items():
            series |= {(name, label): number for label, number in labels.items()}
        return Growing(
            "openai_server_events", "what should be rare, by its name and kind", ("event", "reason"), series
        )

    def _counts(self) -> Counter[str]:
        return _sum(link.counts for link in self.links)

    def _durations(self, name: str, what: str, timed: str) -> Family:
        found = self._taken(timed)
        return Distributed(name, what, (), MOMENTS, {} if found is None else {(): found})

    def _taken(self, name: str) -> Distribution | None:
        return self.counters.durations.get(name)


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _one(name: str, what: str, number: float, **labels: str) -> Family:
    return Current(name, what, tuple(labels), {tuple(labels.values()): number})

# -*- test-case-name: tests.sessions.test_pools -*-
"""
Which models share a worker, and so its slots and its list of tools.

Workers that have a model in common count as one: the daemon always asks the
same one of them (seen with humd 0.31.18), and which one that is cannot be
known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from openai_server.daemon.interfaces import Registry, Worker

#: The pool of all models that no known worker serves: without a registry file, of all.
ELSEWHERE: Final = ""
#: Models that are remembered when nobody serves them any more.
MAX_GONE: Final = 1024


def poolsFrom(bees: Iterable[Worker]) -> dict[str, str]:
    """
    The pool of each model: the smallest model id that can be reached from it
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


class Pools:
    """
    The pools of the daemon's registry file, worked out once for each state of
    it.

    A model that has gone stays in the pool that it had: workers come back after
    a restart of the daemon, and a turn that was asked while they were away is
    to be counted with those that are asked then.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._bees: Sequence[Worker] = ()
        self._pools: Mapping[str, str] = {}

    def of(self, model: str) -> str:
        """
        The pool of a model.
        """
        if not self._registry.isKnown:
            return ELSEWHERE
        bees = tuple(self._registry.bees())
        if bees != self._bees:
            found = poolsFrom(bees)
            gone = [(old, pool) for old, pool in self._pools.items() if old not in found]
            self._bees, self._pools = bees, {**dict(gone[-MAX_GONE:]), **found}
        return self._pools.get(model, ELSEWHERE)

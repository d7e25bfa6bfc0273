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

from openai_server.daemon.interfaces import Bee, Registry

#: The pool of all models that no known worker serves: without a registry file, of all.
ELSEWHERE: Final = ""
#: Models that are remembered when nobody serves them any more.
MAX_GONE: Final = 1024


def poolsFrom(bees: Iterable[Bee]) -> dict[str, str]:
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
    it. The name of a pool says nothing from one state to the next.

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
        The pool of each model, the same object until it is another one for
        some model. Models that are not in it are L{ELSEWHERE}.
        """
        if self._registry.isKnown:
            bees = tuple(self._registry.bees())
            if bees != self._bees:
                self._bees = bees
                self._follow(poolsFrom(bees))
        return self._pools

    def _follow(self, found: Mapping[str, str]) -> None:
        followed = {**_gone(self._pools, found), **found}
        if followed != self._pools:
            self._pools = followed


def _gone(before: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    # Where models belong that were there before: to the first that is left of
    # their pool, if any is.
    heirs: dict[str, str] = {}
    for model, pool in before.items():
        if model in found:
            heirs.setdefault(pool, found[model])
    gone = [(model, heirs.get(pool, pool)) for model, pool in before.items() if model not in found]
    return dict(gone[-MAX_GONE:])

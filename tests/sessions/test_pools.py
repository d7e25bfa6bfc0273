"""
Which models share a worker.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.interfaces import Worker
from openai_server.sessions.pools import ELSEWHERE, MAX_GONE, Pools, poolsFrom
from tests.support import SyncCase


def worker(*models: str) -> Worker:
    """
    A bee with these models.
    """
    return Worker("name", "hid", models, (), ())


class FakeRegistry:
    """
    A registry that says what a test put into it.
    """

    def __init__(self, isKnown: bool, *bees: Worker) -> None:
        self.isKnown = isKnown
        self.current = bees

    def bees(self) -> Sequence[Worker]:
        """
        What was put in.
        """
        return self.current

    def models(self) -> Sequence[str]:
        """
        Not asked for here.
        """
        raise NotImplementedError

    def hasSeen(self, model: str) -> bool:
        """
        Not asked for here.
        """
        raise NotImplementedError


class PoolsFromTests(SyncCase):
    def test_sharedModelJoins(self) -> None:
        """
        Workers that have a model in common are one pool, over several steps
        too; others are their own; a bee without models is none.
        """
        pools = poolsFrom(
            [worker("d"), worker("c", "b"), worker(), worker("a"), worker("b", "a"), worker("e", "d")]
        )
        self.assertEqual(pools, {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d"})

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=8))
    def test_asReachability(self, workers: list[list[str]]) -> None:
        """
        Two models are in one pool exactly if a chain of workers joins them.
        """
        pools = poolsFrom(worker(*models) for models in workers)
        groups: list[set[str]] = []
        for models in filter(None, workers):
            joined = set(models).union(*(group for group in groups if group & set(models)))
            groups = [group for group in groups if not group & joined] + [joined]
        self.assertEqual(pools, {model: min(group) for group in groups for model in group})


class PoolsTests(SyncCase):
    def test_withoutRegistryFile(self) -> None:
        """
        When nothing is known, all models are one pool.
        """
        pools = Pools(FakeRegistry(False, worker("a"), worker("b")))
        self.assertEqual((pools.of("a"), pools.of("b")), (ELSEWHERE, ELSEWHERE))

    def test_followsTheRegistry(self) -> None:
        """
        A change of the registry changes the pools; a model that nobody there
        serves is in the pool of those elsewhere.
        """
        registry = FakeRegistry(True, worker("b"), worker("a"))
        pools = Pools(registry)
        self.assertEqual([pools.of(model) for model in "abc"], ["a", "b", ELSEWHERE])
        registry.current = (worker("b", "a"),)
        self.assertEqual([pools.of(model) for model in "abc"], ["a", "a", ELSEWHERE])

    def test_modelThatIsGoneKeepsItsPool(self) -> None:
        """
        While a restarted daemon waits for its workers, their models are where
        they were and will be again.
        """
        registry = FakeRegistry(True, worker("b", "a"))
        pools = Pools(registry)
        pools.of("b")
        registry.current = ()
        self.assertEqual([pools.of(model) for model in "abc"], ["a", "a", ELSEWHERE])

    def test_notAllThatAreGoneAreRemembered(self) -> None:
        """
        A daemon whose models change all the time does not make the memory grow.
        """
        registry = FakeRegistry(True)
        pools = Pools(registry)
        for number in range(MAX_GONE + 2):
            registry.current = (worker(f"m{number}"),)
            pools.of("any")
        self.assertEqual([pools.of(f"m{number}") for number in (0, 1)], [ELSEWHERE, "m1"])

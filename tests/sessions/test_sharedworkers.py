"""
Which models share a worker.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.interfaces import Bee
from openai_server.sessions.scheduler import MAX_GONE, SharedWorkers, poolsFrom
from tests.support import SyncCase


def worker(*models: str) -> Bee:
    """
    A bee with these models.
    """
    return Bee("name", "hid", models, ())


class FakeRegistry:
    """
    A registry that says what a test put into it.
    """

    def __init__(self, isKnown: bool, *bees: Bee) -> None:
        self.isKnown = isKnown
        self.current = bees

    def bees(self) -> Sequence[Bee]:
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


class SharedWorkersTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = FakeRegistry(True)
        self.pools = SharedWorkers(self.registry)

    def after(self, *workers: str) -> dict[str, str]:
        """
        The models of each pool, by one of them, when these workers are
        registered: a letter for each model.
        """
        self.registry.current = tuple(worker(*models) for models in workers)
        members: dict[str, str] = {}
        for model, pool in sorted(self.pools.current().items()):
            members[pool] = members.get(pool, "") + model
        return {models[0]: models for models in members.values()}

    def test_withoutRegistryFile(self) -> None:
        """
        When nothing is known, all models are one pool.
        """
        self.registry.isKnown = False
        self.assertEqual(self.after("a", "b"), {})

    def test_followsTheRegistry(self) -> None:
        """
        A change of the registry changes the pools.
        """
        self.assertEqual(self.after("b", "a"), {"a": "a", "b": "b"})
        self.assertEqual(self.after("ba"), {"a": "ab"})
        self.assertEqual(self.after("a", "b"), {"a": "a", "b": "b"})

    def test_sameUntilSomethingChanges(self) -> None:
        """
        What says nothing of models, such as another bee's tools, changes
        nothing.
        """
        self.after("ab", "c")
        before = self.pools.current()
        self.after("ab", "c")
        self.assertIs(self.pools.current(), before)
        self.after("c", "", "ba")
        self.assertIs(self.pools.current(), before)
        self.after("c", "", "bad")
        self.assertIsNot(self.pools.current(), before)

    def test_fileThatIsGone(self) -> None:
        """
        What was known of the workers still is.
        """
        self.after("ab", "c")
        self.registry.isKnown = False
        self.assertEqual(self.after(), {"a": "ab", "c": "c"})

    def test_modelThatIsGoneKeepsItsPool(self) -> None:
        """
        While a restarted daemon waits for its workers, their models are where
        they were and will be again.
        """
        self.after("ba", "c")
        self.assertEqual(self.after(), {"a": "ab", "c": "c"})
        self.assertEqual(self.after("c"), {"a": "ab", "c": "c"})

    def test_modelThatIsGoneGoesWithTheOthers(self) -> None:
        """
        Its turns count with the models that it shared a worker with, whatever
        that comes to share besides.
        """
        self.after("bcd")
        self.assertEqual(self.after("ac"), {"a": "abcd"})
        self.assertEqual(self.after("ac", "b"), {"a": "ac", "b": "bd"})

    def test_notAllThatAreGoneAreRemembered(self) -> None:
        """
        A daemon whose models change all the time does not make the memory grow.
        """
        for number in range(MAX_GONE + 2):
            self.registry.current = (worker(f"m{number}"),)
            self.pools.current()
        known = self.pools.current()
        self.assertEqual((len(known), "m0" in known, known["m1"]), (MAX_GONE + 1, False, "m1"))

"""
Tests for L{openai_server.web.models}.
"""

from __future__ import annotations

from collections.abc import Sequence

from openai_server.daemon.interfaces import Bee
from openai_server.web.models import OfferedModels
from tests.support import SyncCase


class FakeRegistry:
    """
    A registry file that says what a test wants.
    """

    isKnown = True

    def __init__(self) -> None:
        self.now: tuple[str, ...] = ()
        self.before: set[str] = set()

    def bees(self) -> Sequence[Bee]:
        return ()

    def models(self) -> Sequence[str]:
        return self.now

    def hasSeen(self, model: str) -> bool:
        return model in self.before or model in self.now


class OfferedModelsTests(SyncCase):
    """
    What is listed, and what may come back.
    """

    def setUp(self) -> None:
        super().setUp()
        self.registry = FakeRegistry()
        self.models = OfferedModels(("sonnet", "opus"), self.registry, lambda: 1_780_000_000.7)

    def test_configuredFirstThenWorkersEachOnce(self) -> None:
        """
        The list follows the registry file.
        """
        self.assertEqual(self.models.ids(), ("sonnet", "opus"))
        self.registry.now = ("echo", "sonnet", "vendor/x")
        self.assertEqual(self.models.ids(), ("sonnet", "opus", "echo", "vendor/x"))

    def test_theOnlyOne(self) -> None:
        """
        What a request without a model asks for, when it can only be one.
        """
        self.assertIsNone(self.models.only())
        models = OfferedModels((), self.registry, lambda: 0.0)
        self.assertIsNone(models.only())
        self.registry.now = ("echo",)
        self.assertEqual(models.only(), "echo")
        self.registry.now = ("echo", "vendor/x")
        self.assertIsNone(models.only())

    def test_createdIsAWholeNumber(self) -> None:
        """
        Clients insist on an integer.
        """
        self.assertEqual(self.models.created("sonnet"), 1_780_000_000)

    def test_knownModelsAreThoseThatMayComeBack(self) -> None:
        """
        Configured, or seen since the start (U1).
        """
        self.registry.before = {"gone"}
        known = [model for model in ("sonnet", "gone", "never") if self.models.isKnown(model)]
        self.assertEqual(known, ["sonnet", "gone"])

"""
Tests for L{openai_server.metrics}.
"""

from __future__ import annotations

from openai_server.metrics import MOST_LABELS, OTHER, Counters
from tests.support import SyncCase


class CountersTests(SyncCase):
    """
    What happened is counted by name and label.
    """

    def test_countsByNameAndLabel(self) -> None:
        """
        Each on its own, and together by name; what never happened is 0.
        """
        counters = Counters()
        counters.add("late_tones")
        counters.add("late_tones", times=2)
        counters.add("thrum_bad_tones", "utf-8")
        counters.add("thrum_bad_tones", "json", 4)
        self.assertEqual(counters.get("late_tones"), 3)
        self.assertEqual(counters.get("thrum_bad_tones", "json"), 4)
        self.assertEqual(counters.total("thrum_bad_tones"), 5)
        self.assertEqual((counters.total("nothing"), counters.get("nothing", "at all")), (0, 0))

    def test_labelsAreBounded(self) -> None:
        """
        A label that comes from outside by mistake does not fill the memory,
        and nothing is lost from the sum.
        """
        counters = Counters()
        for number in range(1000):
            counters.add("mistake", str(number))
        self.assertEqual(len(counters.snapshot()["mistake"]), MOST_LABELS + 1)
        self.assertEqual(counters.get("mistake", OTHER), 1000 - MOST_LABELS)
        self.assertEqual(counters.total("mistake"), 1000)

    def test_snapshotStandsStill(self) -> None:
        """
        What is counted later is not in it.
        """
        counters = Counters()
        counters.add("a", "b")
        snapshot = counters.snapshot()
        counters.add("a", "b")
        self.assertEqual(snapshot, {"a": {"b": 1}})

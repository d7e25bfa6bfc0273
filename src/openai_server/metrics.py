# -*- test-case-name: tests.test_metrics -*-
"""
Counters of what happened, by name and label.

A label is one of few values that this server chooses, never text of a client
or of the daemon. The bound below is for the mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: More labels of one counter than anybody means to have.
MOST_LABELS: Final = 64

#: What is counted under the labels beyond L{MOST_LABELS}.
OTHER: Final = "other"


class Counters:
    """
    Numbers that only grow.
    """

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, name: str, label: str = "", times: int = 1) -> None:
        """
        It happened, this many times.

        @param name: what happened, as in C{thrum_bad_tones}.
        @param label: which kind of it, or why.
        """
        labels = self._counts.get(name)
        if labels is None:
            labels = self._counts[name] = {}
        if label in labels:
            labels[label] += times
            return
        if len(labels) >= MOST_LABELS:
            label = OTHER
        labels[label] = labels.get(label, 0) + times

    def total(self, name: str) -> int:
        """
        How often it happened, all labels together.
        """
        return sum(self._counts.get(name, {}).values())

    def get(self, name: str, label: str = "") -> int:
        """
        How often this kind of it happened.
        """
        return self._counts.get(name, {}).get(label, 0)

    def snapshot(self) -> Mapping[str, Mapping[str, int]]:
        """
        All counts as they are now: by name, then by label.
        """
        return {name: dict(labels) for name, labels in self._counts.items()}

# -*- test-case-name: tests.test_metrics -*-
"""
Counters of what happened, by name and label, and of how long it took.

A label is one of few values that this server chooses, never text of a client
or of the daemon. The bound below is for the mistake.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

#: More labels of one counter than anybody means to have.
MOST_LABELS: Final = 64

#: What is counted under the labels beyond L{MOST_LABELS}.
OTHER: Final = "other"

#: Upper bounds, in seconds, for what should take no time at all.
MOMENTS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Distribution:
    """
    How often values of which size came.

    @ivar bounds: of the buckets, from above; one more bucket is for the rest.
    @ivar counts: values in each bucket, none of which is in two.
    @ivar total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """
        It came once more.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counters:
    """
    Numbers that only grow.

    @ivar durations: how long each thing took that was L{timed}, by its name.
    """

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self.durations: dict[str, Distribution] = {}

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

    def timed(self, name: str, seconds: float) -> None:
        """
        It took this long, as should be a moment.
        """
        taken = self.durations.get(name)
        if taken is None:
            taken = self.durations[name] = Distribution(MOMENTS)
        taken.add(seconds)

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

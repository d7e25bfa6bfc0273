# -*- test-case-name: tests.telemetry.test_metrics -*-
"""
Metrics by their names, without Prometheus: numbers that grow, numbers of now,
and distributions, each for some values of its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from openai_server.metrics import OTHER, Distribution

#: The values of a family's labels.
Values: TypeAlias = "tuple[str, ...]"

#: Values of one label that are told from each other: a page of metrics is
#: bounded by this, whatever models are asked for.
MOST_NAMES: Final = 24


@dataclass
class Family:
    """
    What all kinds of metrics have.

    @ivar name: as Prometheus has it, but for a suffix that its kind adds.
    @ivar what: half a sentence.
    """

    name: str
    what: str
    labels: Sequence[str] = ()


@dataclass
class Growing(Family):
    """
    Numbers that only grow.
    """

    series: Mapping[Values, float] = field(default_factory=dict)


class Count:
    """
    One number of L{Counting}.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


@dataclass
class Counting(Family):
    """
    Numbers that are counted here.
    """

    counts: dict[Values, Count] = field(default_factory=dict)

    def of(self, *values: str) -> Count:
        """
        Return the number of these values, for who counts.
        """
        found = self.counts.get(values)
        if found is None:
            found = self.counts[values] = Count()
        return found

    def now(self) -> Growing:
        """
        Return the numbers as they are now.
        """
        series = {values: count.number for values, count in self.counts.items()}
        return Growing(self.name, self.what, self.labels, series)


@dataclass
class Current(Family):
    """
    Numbers as they are now.
    """

    series: Mapping[Values, float] = field(default_factory=dict)


@dataclass
class Distributed(Family):
    """
    Distributions.

    @ivar fixed: labels that have the same value everywhere.
    """

    bounds: Sequence[float] = ()
    series: dict[Values, Distribution] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def of(self, *values: str) -> Distribution:
        """
        Return the distribution of these values, for who adds to it.
        """
        found = self.series.get(values)
        if found is None:
            found = self.series[values] = Distribution(self.bounds)
        return found

    def named(self, name: str, labels: Sequence[str], **fixed: str) -> Distributed:
        """
        Return the same distributions under another name, with other names of
        the same labels.
        """
        return Distributed(name, self.what, labels, self.bounds, self.series, fixed)


class KnownNames:
    """
    Names that may become values of a label: those that are known, and not too
    many of them. All others are L{OTHER}.
    """

    def __init__(self, isKnown: Callable[[str], bool], most: int = MOST_NAMES) -> None:
        self._isKnown = isKnown
        self._most = most
        self._names: dict[str, str] = {}

    def of(self, name: str) -> str:
        """
        Return this name, or what stands for it.
        """
        found = self._names.get(name)
        if found is not None:
            return found
        if len(self._names) < self._most and self._isKnown(name):
            self._names[name] = name
            return name
        return OTHER

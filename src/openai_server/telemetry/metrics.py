# -*- test-case-name: tests.telemetry.test_metrics -*-
"""
The metrics as Prometheus reads them. This is the one module that knows its
library; it works when somebody asks, and at no other time.

The library says in which form a client wants them, and writes what it knows of
the process. All others are written here: it takes more than ten microseconds a
line, of which there are thousands, and all streams would wait for that. Here
most of a line is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from openai_server.telemetry.families import Current, Distributed, Family, Growing, Values

_OPEN_METRICS: Final = "application/openmetrics-text"
_KINDS: Final = {Growing: "counter", Current: "gauge", Distributed: "histogram"}


class Metrics:
    """
    All metrics of one server.

    @ivar registry: of Prometheus's library, with what it knows of the process.
    """

    def __init__(self, *sources: Callable[[], Iterable[Family]]) -> None:
        """
        @param sources: give the metrics as they are when somebody asks.
        """
        self._sources = sources
        self._beginnings: dict[tuple[str, Values], Sequence[str]] = {}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

    def page(self, accept: str) -> tuple[str, bytes]:
        """
        Return all metrics in the form that a client likes best.

        @param accept: its header of that name.
        @return: the content type and the body.
        """
        try:
            encode, contentType = choose_encoder(accept)
        except TypeError:
            # It asks for a version that is no number.
            encode, contentType = choose_encoder("")
        lines: list[str] = []
        for source in self._sources:
            for family in source():
                lines.append(_head(family, contentType.startswith(_OPEN_METRICS)))
                lines += self._lines(family)
        # What the library writes ends with the mark of the end, where there is one.
        return contentType, "\n".join([*lines, ""]).encode() + encode(self.registry)

    def _lines(self, family: Family) -> Iterator[str]:
        if isinstance(family, Distributed):
            for values, found in family.series.items():
                counts = list(accumulate(found.counts))
                numbers = [*counts, counts[-1], found.total]
                begun = self._begun(family, values)
                yield from [f"{each} {number}" for each, number in zip(begun, numbers, strict=True)]
        elif isinstance(family, Growing | Current):
            for values, number in family.series.items():
                yield f"{self._begun(family, values)[0]} {float(number)}"

    def _begun(self, family: Family, values: Values) -> Sequence[str]:
        """
        Return what the lines of a series begin with.
        """
        found = self._beginnings.get((family.name, values))
        if found is None:
            found = self._beginnings[family.name, values] = list(_beginnings(family, values))
        return found


def _head(family: Family, isOpenMetrics: bool) -> str:
    isTotal = isinstance(family, Growing) and not isOpenMetrics
    name = f"{family.name}_total" if isTotal else family.name
    what = family.what[0].upper() + family.what[1:]
    return f"# HELP {name} {what}.\n# TYPE {name} {_KINDS[type(family)]}"


def _beginnings(family: Family, values: Values) -> Iterator[str]:
    labels = dict(zip(family.labels, values, strict=True))
    if isinstance(family, Distributed):
        labels |= family.fixed
        for bound in (*map(floatToGoString, family.bounds), "+Inf"):
            yield f"{family.name}_bucket{_inBraces({**labels, 'le': bound})}"
        yield f"{family.name}_count{_inBraces(labels)}"
        yield f"{family.name}_sum{_inBraces(labels)}"
    else:
        yield f"{family.name}{'_total' if isinstance(family, Growing) else ''}{_inBraces(labels)}"


def _inBraces(labels: dict[str, str]) -> str:
    said = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{said}}}" if said else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

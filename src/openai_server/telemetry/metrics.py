# -*- test-case-name: tests.telemetry.test_metrics -*-
"""
The metrics as Prometheus reads them. This is the one module that knows its
library; it works when somebody asks, and at no other time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from openai_server.telemetry.families import Current, Distributed, Family, Growing


class Metrics:
    """
    All metrics of one server.

    @ivar registry: of Prometheus's library; nothing else is in it, and nothing
        here is in the library's own.
    """

    def __init__(self, *sources: Callable[[], Iterable[Family]]) -> None:
        """
        @param sources: give the metrics as they are when somebody asks.
        """
        self._sources = sources
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """
        Yield all metrics as they are now, as the registry asks for them.
        """
        for source in self._sources:
            yield from map(_metricFrom, source())

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
        return contentType, encode(self.registry)


def _metricFrom(family: Family) -> Metric:
    if isinstance(family, Distributed):
        return _histogramFrom(family)
    assert isinstance(family, (Growing, Current))
    kind = CounterMetricFamily if isinstance(family, Growing) else GaugeMetricFamily
    metric = kind(family.name, _sentence(family.what), labels=family.labels)
    for values, number in family.series.items():
        metric.add_metric(values, number)
    return metric


def _histogramFrom(family: Distributed) -> Metric:
    metric = HistogramMetricFamily(family.name, _sentence(family.what), labels=family.labels)
    bounds = [*map(floatToGoString, family.bounds), "+Inf"]
    names = [family.name + suffix for suffix in ("_bucket", "_count", "_sum")]
    for values, found in family.series.items():
        labels = {**family.fixed, **dict(zip(family.labels, values, strict=True))}
        counts = list(accumulate(found.counts))
        buckets = zip(bounds, counts, strict=True)
        metric.samples += [Sample(names[0], {**labels, "le": bound}, count) for bound, count in buckets]
        metric.samples += [Sample(names[1], labels, counts[-1]), Sample(names[2], labels, found.total)]
    return metric


def _sentence(what: str) -> str:
    return what[0].upper() + what[1:] + "."

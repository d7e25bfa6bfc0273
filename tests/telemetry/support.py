"""
Reports, and metrics as their readers see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Any

from msgspec.structs import replace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from openai_server.reports import RequestReport, TurnReport
from openai_server.telemetry.families import KnownNames
from openai_server.telemetry.traces import Traces
from tests.support import SyncCase, TestClock
from tests.world import Client, World

_REQUEST = RequestReport(
    requestId="req_1",
    account="ann",
    method="POST",
    route="/v1/chat/completions",
    status=200,
    end="ok",
    model="opus",
    seconds=5.5,
    firstTokenSeconds=1.5,
    inputTokens=10,
    outputTokens=21,
    traceparent=None,
)
_TURN = TurnReport(
    account="ann",
    api="chat",
    model="opus",
    session="ab",
    inputTokens=100,
    cachedTokens=60,
    outputTokens=20,
    calls=2,
    seconds=7.0,
    end="ok",
    isEstimated=False,
)


def requestReport(**fields: Any) -> RequestReport:
    """
    Return a report of a request that ended well, but for these fields.
    """
    return replace(_REQUEST, **fields)


def turnReport(**fields: Any) -> TurnReport:
    """
    Return a report of a turn that ended well, but for these fields.
    """
    return replace(_TURN, **fields)


class ThreadReactor:
    """
    What a thread calls in the reactor's, at once.

    @ivar called: an event that is set then.
    """

    def __init__(self) -> None:
        self.called = Event()

    def callFromThread(self, callable: Any, *args: Any, **kwargs: Any) -> None:
        callable(*args, **kwargs)
        self.called.set()


def tracesInMemory(test: SyncCase, *models: str) -> tuple[Traces, InMemorySpanExporter]:
    """
    Return traces, started until the test ends, with where their spans are.

    @param models: those that are known.
    """
    exporter, reactor = InMemorySpanExporter(), ThreadReactor()
    known = KnownNames(models.__contains__)
    traces = Traces(reactor, TestClock(), lambda: SimpleSpanProcessor(exporter), known)
    traces.startService()

    def stop() -> None:
        stopped = traces.stopService()
        test.assertTrue(reactor.called.wait(10))
        test.successResultOf(stopped)

    test.addCleanup(stop)
    return traces, exporter


class Samples:
    """
    A page of metrics.

    @ivar labels: the names of all labels by the names of their samples.
    """

    def __init__(self, page: str) -> None:
        self._numbers: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.labels: dict[str, set[str]] = {}
        self.families: set[str] = set()
        for family in text_string_to_metric_families(page):
            self.families.add(family.name + ("_total" if family.type == "counter" else ""))
            for sample in family.samples:
                self._numbers[sample.name, frozenset(sample.labels.items())] = sample.value
                self.labels.setdefault(sample.name, set()).update(sample.labels)

    def get(self, name: str, **labels: str) -> float | None:
        """
        Return a number; None where there is none.
        """
        return self._numbers.get((name, frozenset(labels.items())))

    def of(self, name: str, label: str) -> Mapping[str, float]:
        """
        Return the numbers of a name by the values of a label of theirs.
        """
        found = [(dict(labels), number) for (each, labels), number in self._numbers.items() if each == name]
        return {labels[label]: number for labels, number in found}


def get(world: World, path: str = "/metrics", **headers: str) -> Client:
    """
    Get something from a server.
    """
    client = world.client()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in headers.items())]
    client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    client.wire.read()
    return client


def samplesOf(world: World) -> Samples:
    """
    Return the metrics of a server, as Prometheus is told them.
    """
    client = get(world)
    assert client.status == 200, client.head
    return Samples(client.content.decode())

# -*- test-case-name: tests.telemetry -*-
"""
All that is told of one server, as a service.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorTime

from openai_server.config import Configuration
from openai_server.config.exposure import isPrivate
from openai_server.daemon.link import Link
from openai_server.greeting import Bound
from openai_server.metrics import Counters
from openai_server.reports import RequestReports
from openai_server.sideport import SidePort
from openai_server.store.interfaces import Store
from openai_server.telemetry.families import Family
from openai_server.telemetry.looplag import LoopLag
from openai_server.telemetry.metrics import Metrics
from openai_server.telemetry.page import metricsRoute, metricsSite
from openai_server.telemetry.reported import ReportedFigures
from openai_server.telemetry.rooms import RoomFigures
from openai_server.web.front import WebFront
from openai_server.web.routes import Answer


class NoTraces(Exception):
    """
    Traces are wanted, and what they need is not installed. The text is one
    line for the operator.
    """


class Telemetry(MultiService):
    """
    Counts what is reported, and tells it to whoever asks.

    @ivar figures: hears of turns and requests.
    @ivar sources: give all metrics but those that every process has.
    @ivar metrics: what Prometheus is told.
    @ivar reports: who wants to hear of requests.
    @ivar routes: what is served beside the API.
    @ivar isTraced: whether the traces of requests matter.
    """

    def __init__(
        self, reactor: Any, clock: IReactorTime, configuration: Configuration, counters: Counters
    ) -> None:
        """
        @raise NoTraces: they are wanted, and cannot be had.
        """
        super().__init__()
        self._clock = clock
        self._configuration = configuration
        self._counters = counters
        self._rooms: RoomFigures | None = None
        self.figures = ReportedFigures(self._isKnown)
        self.sources = (self.figures.families, self._ofRooms)
        self.metrics = Metrics(*self.sources)
        self.reports: list[RequestReports] = [self.figures]
        self.routes: list[tuple[str, str, Answer]] = [metricsRoute(self.metrics)]
        self.isTraced = configuration.traces is not None
        LoopLag(clock, counters).setServiceParent(self)
        if configuration.traces is not None:
            try:
                from openai_server.telemetry.traces import tracesTo
            except ImportError as error:
                missing = f"traces need what is not installed ({error}): pip install 'openai-server[otel]'"
                raise NoTraces(missing) from None
            traces = tracesTo(configuration.traces, reactor, clock, self.figures.models)
            traces.setServiceParent(self)
            self.reports.append(traces)

    def watch(self, links: Sequence[Link], store: Store, front: WebFront) -> None:
        """
        Tell what these know, from now on.
        """
        self._rooms = RoomFigures(self._counters, links, store, front, self._configuration.maxTurns)

    def serve(self, port: SidePort) -> Bound:
        """
        Serve the metrics on a port of their own, which is open.

        @return: where they are.
        """
        hosts = self._configuration.allowedHosts if isPrivate(port.description) else None
        return port.serve(metricsSite(self.metrics, self._clock, hosts))

    def _ofRooms(self) -> Iterable[Family]:
        return () if self._rooms is None else self._rooms.families()

    def _isKnown(self, model: str) -> bool:
        return self._rooms is not None and self._rooms.front.models.isKnown(model)

# -*- test-case-name: tests.telemetry.test_page -*-
"""
C{GET /metrics}, beside the API and on a port of its own.

That port is served by this server's own HTTP, whose connections have limits
and come to an end when the service stops; and whose answers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from openai_server.accounts.account import Account
from openai_server.accounts.keyring import ANONYMOUS, KeyRing
from openai_server.errors import APIError
from openai_server.telemetry.metrics import Metrics
from openai_server.web.administrators import checkAdministrator
from openai_server.web.admission import Admission
from openai_server.web.interfaces import Head, Request
from openai_server.web.routes import Answer
from openai_server.web.site import APISite

PATH: Final = "/metrics"
#: Connections to the port of its own.
MOST_CONNECTIONS: Final = 64


def metricsRoute(metrics: Metrics) -> tuple[str, str, Answer]:
    """
    Return the route beside those of the API, for whoever may know all.
    """

    async def answer(request: Request) -> None:
        checkAdministrator(request)
        _answer(metrics, request)

    return "GET", PATH, answer


class MetricsPage(Resource):
    """
    The metrics, and nothing else.
    """

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render(self, request: Any) -> int:
        """
        Answer a request.

        @raise APIError: it is for something else.
        """
        if request.path != PATH.encode():
            raise APIError("unknown_url", f"Here is nothing but {PATH}.")
        if request.method not in (b"GET", b"HEAD"):
            allowed = {"allow": "GET, HEAD"}
            raise APIError("method_not_supported", "This path takes GET only.", headers=allowed)
        request.route = PATH
        _answer(self._metrics, request)
        return NOT_DONE_YET


class Unguarded(Admission):
    """
    Lets everybody in who reaches the port.
    """

    def admit(self, request: Head) -> Account:
        """
        Let a request in.
        """
        return ANONYMOUS


def metricsSite(metrics: Metrics, clock: IReactorTime, allowedHosts: Sequence[str] | None) -> APISite:
    """
    Return what serves the metrics on a port of their own.

    @param allowedHosts: names that this server has beside loopback ones, so
        that web pages which come by another cannot read the metrics; None for
        a port that others reach anyway.
    """
    # Nobody has a key for this port.
    keys = KeyRing(b"", lambda: 0.0)
    admission = Unguarded(keys) if allowedHosts is None else Admission(keys, allowedHosts)
    return APISite(MetricsPage(metrics), clock, admission=admission, maxConnections=MOST_CONNECTIONS)


def _answer(metrics: Metrics, request: Request) -> None:
    accept = (request.getHeader(b"accept") or b"").decode("latin-1")
    contentType, body = metrics.page(accept)
    request.answer(body, contentType=contentType.encode("latin-1"))

# -*- test-case-name: tests.web.test_routes -*-
"""
Answers that are one JSON body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from openai_server.api.problem import errorBody
from openai_server.errors import APIError
from openai_server.web.outflow import Outflow

if TYPE_CHECKING:
    from openai_server.web.request import APIRequest


def answerJSON(
    request: APIRequest, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    """
    Answer with a whole body, of JSON unless its type is set already. A large
    one leaves as the client reads it; a client that reads nothing of it for
    ten seconds is cut.

    @param headers: further headers of the answer.
    """
    request.setResponseCode(status)
    for name, value in (headers or {}).items():
        request.setHeader(name, value)
    if not request.responseHeaders.hasHeader(b"content-type"):
        request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    Outflow(request).sendAll(body)


def answerError(request: APIRequest, error: APIError) -> None:
    """
    Answer with an error, before any byte of another answer.
    """
    request.setEnd(error.kind.end)
    # A stream that never began may have set its own.
    request.responseHeaders.removeHeader(b"content-type")
    headers = dict(error.headers)
    if error.retryAfter is not None:
        headers["retry-after"] = str(error.retryAfter)
    if not error.mayRetry:
        headers["x-should-retry"] = "false"
    answerJSON(request, errorBody(error), error.kind.status, headers)

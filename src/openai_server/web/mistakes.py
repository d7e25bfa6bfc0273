# -*- test-case-name: tests.web.test_routes -*-
"""
Mistakes of ours, as the log and the client are told of them.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.errors import APIError

_log = Logger()


class Bug(Exception):
    """
    A programming error, as it is logged: with its type and its place, without
    its text, which may hold what a client or a worker has said.
    """


def errorFromMistake(reason: Failure, requestId: str, route: str) -> APIError:
    """
    Log an exception that nobody expected, and give what its client is told.

    @param route: the template of the route that failed.
    """
    bug = Bug(f"{reason.type.__name__ if reason.type else 'unknown'} (its text is not logged)")
    _log.failure(
        "request {requestId} failed at {route}",
        Failure(bug, Bug, reason.getTracebackObject()),
        requestId=requestId,
        route=route,
    )
    message = f"The server made a mistake. Its operator can look for request {requestId}."
    return APIError("internal_error", message, mayRetry=False)

# -*- test-case-name: tests.test_errors -*-
"""
What can go wrong with a request, as its client and the access log are told.

One table holds status, type and end code for each kind of failure; an
L{APIError} names its kind and adds the words. Sources: OpenAI's error object
and status codes; the retry rule: what failed before a worker could have begun
may be asked again and says when; what may have run says
C{x-should-retry: false}.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class End(Enum):
    """
    How a request ended: exactly one of these in each access log line.

    @ivar word: what it is called there.
    """

    def __init__(self, word: str) -> None:
        # An enumeration's own value costs two calls each time.
        self.word = word

    OK = "ok"
    BAD = "bad"
    AUTH = "auth"
    HOST = "host"
    SHED = "shed"
    CLIENT_SLOW = "cl-slow"
    CLIENT_GONE = "cl-gone"
    CLIENT_STUCK = "cl-stuck"
    DAEMON_DOWN = "up-down"
    DAEMON_LOST = "up-lost"
    STALLED = "up-stall"
    WORKER_ERROR = "up-error"
    NO_WORKER = "up-nowork"
    DRAINED = "drain"
    LIMITED = "limit"
    BUG = "bug"


@dataclass(frozen=True)
class Kind:
    """
    One row of the table: what a failure means on HTTP and in the log.

    @ivar code: OpenAI's error code, or None where OpenAI gives none.
    """

    status: int
    type: str
    code: str | None
    end: End


_INVALID = "invalid_request_error"
_SERVER = "server_error"
_UNAVAILABLE = "service_unavailable_error"

#: Every kind of failure by its name. The name is the code on the wire, but for
#: those whose code is None or shared.
KINDS: Final[dict[str, Kind]] = {
    "invalid_json": Kind(400, _INVALID, None, End.BAD),
    "bad_request": Kind(400, _INVALID, None, End.BAD),
    "missing_required_parameter": Kind(400, _INVALID, "missing_required_parameter", End.BAD),
    "invalid_type": Kind(400, _INVALID, "invalid_type", End.BAD),
    "invalid_value": Kind(400, _INVALID, "invalid_value", End.BAD),
    "unsupported_parameter": Kind(400, _INVALID, "unsupported_parameter", End.BAD),
    "unsupported_value": Kind(400, _INVALID, "unsupported_value", End.BAD),
    "unknown_parameter": Kind(400, _INVALID, "unknown_parameter", End.BAD),
    "previous_response_not_found": Kind(400, _INVALID, "previous_response_not_found", End.BAD),
    "invalid_stream_id": Kind(400, _INVALID, "invalid_stream_id", End.BAD),
    "websocket_stream_limit_reached": Kind(400, _INVALID, "websocket_stream_limit_reached", End.BAD),
    "websocket_connection_limit_reached": Kind(
        400, _INVALID, "websocket_connection_limit_reached", End.BAD
    ),
    "context_length_exceeded": Kind(400, _INVALID, "context_length_exceeded", End.WORKER_ERROR),
    "invalid_api_key": Kind(401, "authentication_error", "invalid_api_key", End.AUTH),
    "origin_not_allowed": Kind(403, _INVALID, "origin_not_allowed", End.HOST),
    "cwd_not_allowed": Kind(403, _INVALID, "cwd_not_allowed", End.BAD),
    "admin_key_required": Kind(403, _INVALID, "admin_key_required", End.AUTH),
    "host_not_allowed": Kind(421, _INVALID, "host_not_allowed", End.HOST),
    "model_not_found": Kind(404, _INVALID, "model_not_found", End.NO_WORKER),
    "not_kept": Kind(404, _INVALID, None, End.BAD),
    "unsupported_endpoint": Kind(404, _INVALID, "unsupported_endpoint", End.BAD),
    "unknown_url": Kind(404, _INVALID, "unknown_url", End.BAD),
    "method_not_supported": Kind(405, _INVALID, "method_not_supported", End.BAD),
    "request_timeout": Kind(408, "timeout", "request_timeout", End.CLIENT_SLOW),
    "session_busy": Kind(409, "conflict", "session_busy", End.BAD),
    "call_expired": Kind(409, "conflict", "call_expired", End.BAD),
    "conversation_locked": Kind(409, "conflict", "conversation_locked", End.BAD),
    "response_in_progress": Kind(409, "conflict", "response_in_progress", End.BAD),
    "idempotency_key_reused": Kind(409, "conflict", "idempotency_key_reused", End.BAD),
    "idempotency_key_in_use": Kind(409, "conflict", "idempotency_key_in_use", End.BAD),
    "idempotency_attempt_lost": Kind(409, "conflict", "idempotency_attempt_lost", End.BAD),
    "request_too_large": Kind(413, _INVALID, "request_too_large", End.BAD),
    "unsupported_content_type": Kind(415, _INVALID, "unsupported_content_type", End.BAD),
    "unsupported_content_encoding": Kind(415, _INVALID, "unsupported_content_encoding", End.BAD),
    "expectation_failed": Kind(417, _INVALID, None, End.BAD),
    "upgrade_required": Kind(426, _INVALID, None, End.BAD),
    "headers_too_large": Kind(431, _INVALID, None, End.BAD),
    "rate_limit_exceeded": Kind(429, "rate_limit_error", "rate_limit_exceeded", End.WORKER_ERROR),
    "too_many_wrong_keys": Kind(429, "rate_limit_error", "rate_limit_exceeded", End.AUTH),
    "account_limited": Kind(429, "rate_limit_error", "rate_limit_exceeded", End.LIMITED),
    "budget_spent": Kind(429, "insufficient_quota", "insufficient_quota", End.LIMITED),
    "line_full": Kind(429, "rate_limit_error", "server_is_overloaded", End.SHED),
    "insufficient_quota": Kind(429, "insufficient_quota", "insufficient_quota", End.WORKER_ERROR),
    "internal_error": Kind(500, _SERVER, "internal_error", End.BUG),
    "worker_error": Kind(502, _SERVER, "worker_error", End.WORKER_ERROR),
    # What a worker says of a request that this server found nothing wrong with.
    "prompt_too_large": Kind(413, _INVALID, "request_too_large", End.WORKER_ERROR),
    "model_refused": Kind(404, _INVALID, "model_not_found", End.WORKER_ERROR),
    "tool_route_lost": Kind(502, _SERVER, "tool_route_lost", End.WORKER_ERROR),
    "daemon_lost": Kind(502, _SERVER, "daemon_lost", End.DAEMON_LOST),
    "worker_lost": Kind(502, _SERVER, "worker_lost", End.DAEMON_LOST),
    "daemon_unavailable": Kind(503, _UNAVAILABLE, "daemon_unavailable", End.DAEMON_DOWN),
    "daemon_silent": Kind(503, _UNAVAILABLE, "daemon_unavailable", End.STALLED),
    "model_unavailable": Kind(503, _UNAVAILABLE, "model_unavailable", End.NO_WORKER),
    "worker_overloaded": Kind(503, _UNAVAILABLE, "server_is_overloaded", End.WORKER_ERROR),
    "bodies_over_budget": Kind(503, _UNAVAILABLE, "server_is_overloaded", End.SHED),
    "past_dusk": Kind(503, _UNAVAILABLE, "daemon_unavailable", End.DAEMON_DOWN),
    "shutting_down": Kind(503, _UNAVAILABLE, "shutting_down", End.DRAINED),
    "store_unavailable": Kind(503, _UNAVAILABLE, "store_unavailable", End.SHED),
    "upstream_timeout": Kind(504, _SERVER, "upstream_timeout", End.STALLED),
}


class APIError(Exception):
    """
    A request failed in a way that its client is told about, as an HTTP status
    before the first byte of an answer or as an event after it.

    Not for a programming error: that is any other exception, and its text
    never leaves the server.

    @ivar name: the name of a row of L{KINDS}.
    @ivar message: one or two sentences for the person at the client. Holds no
        secret and no text of the daemon's that has not been cleaned.
    @ivar param: the path of the field at fault, like C{messages[2].content}.
    @ivar retryAfter: seconds after which asking again makes sense, or None.
    @ivar mayRetry: False where a worker may have begun to act:
        C{x-should-retry: false} goes out.
    @ivar headers: further headers of the answer, names in lower case.
    """

    def __init__(
        self,
        name: str,
        message: str,
        *,
        param: str | None = None,
        retryAfter: int | None = None,
        mayRetry: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.kind = KINDS[name]
        self.message = message
        self.param = param
        self.retryAfter = retryAfter
        self.mayRetry = mayRetry
        self.headers = headers or {}


def callExpired() -> APIError:
    """
    The error for results of calls whose turn cannot be gone on with, from a
    client that shows nothing of which a fresh one could be made.
    """
    said = (
        "The model waits no longer for the result of this call, and the request shows nothing of the"
        " conversation. Send all of it: the messages before the call, the call, and its result."
    )
    return APIError("call_expired", said, mayRetry=False)


def shuttingDown() -> APIError:
    """
    The error for what comes too late, and can be asked of the next process.
    """
    return APIError("shutting_down", "The server is shutting down.", retryAfter=1)

# -*- test-case-name: tests.web.test_streaming -*-
"""
What clients say in the headers of a request, whatever its dialect.
"""

from __future__ import annotations

from typing import Final, TypeVar

from openai_server.api.inquiry import Inquiry
from openai_server.sessions.hints import Hints, hintsFrom
from openai_server.sessions.retries import Attempt
from openai_server.web.interfaces import Request

#: Seconds: no client is pinged more often.
_SHORTEST_INTERVAL: Final = 1.0

_R = TypeVar("_R")


def isFromPage(request: Request) -> bool:
    """
    Return whether this server's own page asks. One of another origin cannot
    send this header without being allowed to.
    """
    return request.getHeader(b"x-page") is not None


def keepAliveInterval(request: Request, setting: float) -> float:
    """
    Return the seconds of silence after which a stream says something: as set,
    but at most a third of the read timeout that its client announces.
    """
    given = request.getHeader(b"x-stainless-read-timeout")
    if given is None:
        return setting
    try:
        announced = float(given)
    except ValueError:
        return setting
    return min(setting, max(announced / 3, _SHORTEST_INTERVAL)) if announced > 0 else setting


def hintsOf(request: Request, inquiry: Inquiry) -> Hints:
    """
    Return what may name the session of a request.
    """
    header = request.getHeader(b"x-hum-session")
    return hintsFrom(None if header is None else header.decode("utf-8", "replace"), inquiry.user)


def cwdOf(request: Request, inquiry: Inquiry) -> str | None:
    """
    Return the folder that a request asks for, None when it asks for none.
    """
    header = request.getHeader(b"x-hum-cwd")
    return header.decode("utf-8", "surrogateescape") if header else inquiry.metadata.get("cwd")


def attemptFrom(request: Request, account: str, body: bytes) -> Attempt[_R] | None:
    """
    Return what a retry of this request would find; None for clients that never
    tell a retry from a new request.
    """
    count = request.getHeader(b"x-stainless-retry-count")
    key = request.getHeader(b"idempotency-key") or None
    if count is None and key is None:
        return None
    request.retry = int(count) if count is not None and count.isdigit() and len(count) < 6 else 0
    session, cwd = request.getHeader(b"x-hum-session"), request.getHeader(b"x-hum-cwd")
    return Attempt(account, body, session, request.retry, key, cwd, request.path)

# -*- test-case-name: tests.wire.test_ids -*-
"""
Ids on thrum: request ids, session ids, and the sigil.

Source: thrum's wire specification 0.7.0.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from itertools import count

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    """
    A non-negative integer in base 36, lower case.
    """
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits


class RequestIds:
    """
    Makes rids as thrum's convention wants them: C{base36(now in ms)-base36(counter)}.

    @ivar _now: returns the wall clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._counter = count()

    def next(self) -> str:
        """
        A rid that this object has not given before.
        """
        return f"{base36(int(self._now() * 1000))}-{base36(next(self._counter))}"


def newSessionId() -> str:
    """
    A fresh random sid of 26 characters of C{[A-Za-z0-9_-]}.

    The sid becomes a path segment of a URL in the worker: any other character
    in it leaves the turn without an answer (seen with humd 0.31.18).
    """
    return "oa-" + secrets.token_urlsafe(17)


def sigil(sid: str, nest: str) -> str:
    """
    The short name that a daemon gives to a session in its nest.
    """
    return sha256(f"{nest}:{sid}".encode()).hexdigest()[:12]

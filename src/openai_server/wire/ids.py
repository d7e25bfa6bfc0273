# -*- test-case-name: tests.wire.test_ids -*-
"""
Ids on thrum: request ids, session ids, and the sigil.

Source: thrum's wire specification 0.7.0.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Final

#: Random characters of a session's id, and for how many ids they are drawn at once.
_LENGTH: Final = 15
_BLOCK: Final = 64
_spare: list[str] = []

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
#: All pairs of digits, and the milliseconds that two pairs count.
_PAIRS: Final = tuple(first + second for first in _DIGITS for second in _DIGITS)
_FOUR: Final = len(_PAIRS) ** 2


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


_base36 = lru_cache(maxsize=2)(base36)


class RequestIds:
    """
    Makes rids as thrum's convention wants them: C{base36(now in ms)-base36(counter)}.

    @ivar _now: returns the wall clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._moment = -1
        self._stem = ""
        self._high = 0
        self._low = -1

    def next(self) -> str:
        """
        Return a rid that this object has not given before.
        """
        moment = int(self._now() * 1000)
        self._low += 1
        if self._low == len(_DIGITS):
            self._low = 0
            self._high += 1
            self._moment = -1
        if moment != self._moment:
            self._moment = moment
            # Most of it is the same for half an hour.
            head, tail = divmod(moment, _FOUR)
            first, second = divmod(tail, len(_PAIRS))
            high = base36(self._high) if self._high else ""
            self._stem = f"{_base36(head)}{_PAIRS[first]}{_PAIRS[second]}-{high}"
        return self._stem + _DIGITS[self._low]


def newSessionId() -> str:
    """
    A fresh sid of 26 characters of C{[A-Za-z0-9_-]}: about when it was made, and
    90 random bits. Sids that grow with time are cheaper to keep in a database.

    The sid becomes a path segment of a URL in the worker: any other character
    in it leaves the turn without an answer (seen with humd 0.31.18).
    """
    if not _spare:
        # One call of the system's for many ids.
        text = secrets.token_urlsafe(_BLOCK * _LENGTH * 3 // 4)
        stem = "oa-" + base36(int(time.time() * 1000))
        _spare.extend(stem + text[start : start + _LENGTH] for start in range(0, _BLOCK * _LENGTH, _LENGTH))
    return _spare.pop()


def sigil(sid: str, nest: str) -> str:
    """
    The short name that a daemon gives to a session in its nest.
    """
    return sha256(f"{nest}:{sid}".encode()).hexdigest()[:12]

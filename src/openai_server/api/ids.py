# -*- test-case-name: tests.api.test_ids -*-
"""
Ids of answers.

They begin with when they were made: ids that grow with time are cheaper to keep
in a database. What follows is random, and enough of it that none can be guessed.
"""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from secrets import token_hex
from typing import Final

#: Random bytes of an id, a multiple of 3, and ids that are drawn at a time.
_ID_BYTES: Final = 12
_IDS: Final = 256
_ID_LENGTH: Final = _ID_BYTES * 4 // 3


def newIds(prefix: str) -> Iterator[str]:
    """
    Give ids that begin with this, none of them twice.
    """
    while True:
        stem = prefix + _seconds()
        drawn = urlsafe_b64encode(os.urandom(_ID_BYTES * _IDS)).decode()
        for at in range(0, len(drawn), _ID_LENGTH):
            yield stem + drawn[at : at + _ID_LENGTH]


def newToken() -> str:
    """
    Return what the ids of a response and of its items have in common: 32
    hexadecimal digits, of which the last 24 are random.
    """
    return _seconds() + token_hex(_ID_BYTES)


def _seconds() -> str:
    """
    Return the seconds since 1970 as eight hexadecimal digits, until 2106.
    """
    return f"{int(time.time()):08x}"

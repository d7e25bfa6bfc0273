# -*- test-case-name: tests.api.chat.test_dialect -*-
"""
Ids of answers.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from secrets import token_hex
from typing import Final

#: Random bytes of an id, a multiple of 3, and ids that are drawn at a time.
_ID_BYTES: Final = 18
_IDS: Final = 256
_ID_LENGTH: Final = _ID_BYTES * 4 // 3


def newIds(prefix: str) -> Iterator[str]:
    """
    Give ids that begin with this, none of them twice.
    """
    while True:
        drawn = urlsafe_b64encode(os.urandom(_ID_BYTES * _IDS)).decode()
        for at in range(0, len(drawn), _ID_LENGTH):
            yield prefix + drawn[at : at + _ID_LENGTH]


def newToken() -> str:
    """
    Return what the ids of a response and of its items have in common.
    """
    return token_hex(16)

# -*- test-case-name: tests.sessions.test_digests -*-
"""
Digests of lists of values.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

_encode = msgspec.msgpack.Encoder().encode


def digestOf(values: Iterable[str | bytes], key: bytes = b"") -> bytes:
    """
    16 bytes that stand for these values, in this order. Each goes in behind
    its length and kind: no two lists can run together into the same bytes.

    @param key: at most 64 bytes; who does not know it cannot find values by
        trying.
    """
    listed = list(values)
    try:
        encoded = _encode(listed)
    except UnicodeEncodeError:
        # A lone surrogate. In a list of its own, such bytes are no others'.
        encoded = _encode(
            [[each.encode("utf-8", "surrogatepass")] if isinstance(each, str) else each for each in listed]
        )
    return blake2b(encoded, key=key, digest_size=16).digest()

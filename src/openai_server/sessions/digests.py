# -*- test-case-name: tests.sessions.test_digests -*-
"""
Digests of lists of values.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def digestOf(values: Iterable[str | bytes], key: bytes = b"") -> bytes:
    """
    16 bytes that stand for these values, in this order. Each goes in behind
    its length and kind: no two lists can run together into the same bytes.

    @param key: at most 64 bytes; who does not know it cannot find values by
        trying.
    """
    digest = blake2b(key=key, digest_size=16)
    for value in values:
        isText = isinstance(value, str)
        encoded = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        digest.update(b"%c%x:" % (b"t" if isText else b"b", len(encoded)))
        digest.update(encoded)
    return digest.digest()

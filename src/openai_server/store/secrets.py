# -*- test-case-name: tests.store.test_state -*-
"""
Secrets of several names, all made of one.
"""

from __future__ import annotations

from hashlib import blake2b


def derivedSecret(root: bytes, name: str) -> bytes:
    """
    Return the 32 bytes for this name.

    @param root: 16 to 64 random bytes; who does not know them cannot know any
        of the others.
    """
    return blake2b(name.encode(), key=root, digest_size=32).digest()

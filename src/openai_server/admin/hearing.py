# -*- test-case-name: tests.admin.test_doctor -*-
"""
What another program says, without waiting for it for long.
"""

from __future__ import annotations

import socket
import time


def heardFrom(connection: socket.socket, seconds: float, longest: int, until: bytes | None = None) -> bytes:
    """
    Return what comes on a connection until it is closed, or one of these bounds
    is reached: however slowly it comes.

    @param seconds: for all of it.
    @param longest: bytes that are enough.
    @param until: what ends it; None for nothing.
    """
    said = b""
    end = time.monotonic() + seconds
    while len(said) < longest and (until is None or until not in said):
        left = end - time.monotonic()
        if left <= 0:
            break
        connection.settimeout(left)
        try:
            received = connection.recv(65536)
        except TimeoutError:
            break
        if not received:
            break
        said += received
    return said

# -*- test-case-name: tests.web.test_silent_peers -*-
"""
Clients that are gone without a word.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from openai_server.outlet import socketOf

INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
#: Socket options by which a client that vanished is noticed within 45 s:
#: milliseconds without acknowledgement, seconds of silence before the first
#: probe and between two, probes.
_SILENCE_OPTIONS: Final = {
    "TCP_USER_TIMEOUT": 45_000,
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
}


def endSilentPeers(transport: Any) -> None:
    """
    Have the system end a TCP connection whose client is gone without a word,
    be it that bytes of ours stay unacknowledged or that none are under way.
    Other transports, and systems without these options, are left alone.
    """
    # Under TLS, and under nothing else, the transport has one of its own.
    tcp = socketOf(getattr(transport, "transport", transport))
    if tcp is None or tcp.family not in INTERNET:
        return
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SILENCE_OPTIONS.items():
        if hasattr(socket, name):
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

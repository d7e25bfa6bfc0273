"""
Tests for what tells of a client that vanished without a word (K11).
"""

from __future__ import annotations

import socket
from types import SimpleNamespace

from openai_server.web.peers import endSilentPeers
from tests.support import SyncCase


class SilentPeerTests(SyncCase):
    """
    The options of a client's socket.
    """

    def newSocket(self, family: int) -> socket.socket:
        """
        A socket that is closed after the test.
        """
        made = socket.socket(family)
        self.addCleanup(made.close)
        return made

    def assertWatched(self, tcp: socket.socket) -> None:
        """
        The system ends this connection 45 s after the client vanished.
        """
        self.assertEqual(tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.assertEqual(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 45_000)
            idle, interval, count = (
                tcp.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            self.assertEqual(idle + interval * count, 45)

    def test_tcpConnection(self) -> None:
        """
        Unacknowledged bytes end it after 45 s, silence after as long (K11).
        """
        tcp = self.newSocket(socket.AF_INET)
        endSilentPeers(SimpleNamespace(getHandle=lambda: tcp))
        self.assertWatched(tcp)

    def test_connectionUnderTLS(self) -> None:
        """
        The socket is that of the transport below.
        """
        tcp = self.newSocket(socket.AF_INET)
        endSilentPeers(SimpleNamespace(transport=SimpleNamespace(getHandle=lambda: tcp)))
        self.assertWatched(tcp)

    def test_otherTransportsAreLeftAlone(self) -> None:
        """
        A Unix socket has no such options, a transport in memory no socket.
        """
        unix = self.newSocket(socket.AF_UNIX)
        endSilentPeers(SimpleNamespace(getHandle=lambda: unix))
        endSilentPeers(object())
        self.assertEqual(unix.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 0)

"""
Tests for L{openai_server.daemon.backlog}: the order of what goes to a socket
at once and of what goes by the transport.
"""

from __future__ import annotations

import os
import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport

from openai_server.daemon.backlog import OUTBOUND_LIMIT, Backlog
from openai_server.outlet import socketOf
from tests.support import AsyncCase, SyncCase


class BacklogTests(SyncCase):
    """
    A socket of which nobody reads, and a transport that only keeps.
    """

    def setUp(self) -> None:
        super().setUp()
        ours, self.theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.theirs.close)
        ours.setblocking(False)
        self.ours = ours
        self.transport = StringTransport()
        self.backlog = Backlog(self.transport, ours)

    def test_atOnce(self) -> None:
        """
        While nothing waits, bytes reach the socket in the call.
        """
        self.backlog.send(b"one")
        self.backlog.send(b"two")
        self.assertEqual((self.theirs.recv(100), self.transport.value()), (b"onetwo", b""))
        self.assertFalse(self.backlog.isPaused)

    def test_restAndWhatFollowsGoByTheTransport(self) -> None:
        """
        Nothing overtakes what the socket did not take, until the transport is
        empty.
        """
        size = 4 << 20
        self.backlog.send(b"x" * size)
        left = len(self.transport.value())
        self.assertTrue(0 < left < size)
        self.theirs.recv(1 << 20)
        self.backlog.send(b"two")
        self.assertEqual(self.transport.value(), b"x" * left + b"two")
        self.assertEqual(self.backlog.size, left + 3)
        self.transport.clear()
        self.backlog.resumeProducing()
        self.backlog.send(b"three")
        self.assertEqual(self.transport.value(), b"")

    def test_tooMuch(self) -> None:
        """
        Prompts are refused from 8 MiB on, until all is sent.
        """
        self.backlog.send(b"x" * (OUTBOUND_LIMIT + (4 << 20)))
        self.assertTrue(self.backlog.isOver)
        self.backlog.resumeProducing()
        self.assertFalse(self.backlog.isOver)

    def test_brokenSocket(self) -> None:
        """
        The transport finds out what is wrong.
        """
        self.ours.close()
        self.backlog.send(b"one")
        self.assertEqual(self.transport.value(), b"one")

    def test_closed(self) -> None:
        """
        From the end on all goes by the transport, which drops it.
        """
        self.backlog.detach()
        self.transport.loseConnection()
        self.backlog.send(b"one")
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value(), b"one")
        other = Backlog(StringTransport(), self.ours)
        other.stopProducing()
        other.send(b"two")
        self.assertRaises(BlockingIOError, self.theirs.recv, 100, socket.MSG_DONTWAIT)


class Counting(Protocol):
    """
    Keeps what it is sent.
    """

    def __init__(self, size: int, done: Deferred[bytes]) -> None:
        self._size = size
        self._done = done
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) == self._size:
            self._done.callback(self._data)


class RealTransportTests(AsyncCase):
    """
    A transport of Twisted's over a real Unix socket.
    """

    async def test_orderAndEmptiness(self) -> None:
        """
        Bytes come in order, whichever way they took, and the transport says
        when it is empty.
        """
        parts = [bytes([65 + number]) * (300_000 if number % 3 == 0 else 10) for number in range(20)]
        sent = b"".join(parts)
        done: Deferred[bytes] = Deferred()
        path = os.path.join("/tmp", f"oa-{os.urandom(6).hex()}")
        factory = Factory()
        factory.buildProtocol = lambda address: Counting(len(sent), done)  # type: ignore[method-assign, assignment]
        port = await UNIXServerEndpoint(reactor, path).listen(factory)
        protocol = await UNIXClientEndpoint(reactor, path).connect(Factory.forProtocol(Protocol))
        transport = protocol.transport
        backlog = Backlog(transport, socketOf(transport))
        for part in parts:
            backlog.send(part)
        self.assertTrue(backlog.isPaused)
        self.assertEqual(await done, sent)
        self.assertFalse(backlog.isPaused)
        backlog.detach()
        transport.loseConnection()
        await port.stopListening()

"""
Tests for L{openai_server.daemon.endpoint}. Two of them connect real sockets.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from openai_server.daemon.endpoint import CannotConnect, SocketEndpoint, SpareDescriptor, peerProcess
from tests.support import AsyncCase, SyncCase


class ReasonTests(SyncCase):
    """
    (S2) (S22) Why there is no connection, in plain words.
    """

    def attempt(self, problem: str | None = None) -> tuple[Any, Deferred[Any]]:
        """
        Begin to connect.
        """
        memory = MemoryReactorClock()
        endpoint = SocketEndpoint(memory, "/x", problem=lambda path, uid: problem)
        return memory, endpoint.connect(Factory.forProtocol(Protocol))

    def test_problemBeforehand(self) -> None:
        """
        (S2) (S3) What a look shows is not tried.
        """
        memory, connecting = self.attempt("this is not a socket: /x")
        failure = self.failureResultOf(connecting, CannotConnect)
        self.assertEqual(str(failure.value), "this is not a socket: /x")
        self.assertEqual(memory.unixClients, [])

    def test_errors(self) -> None:
        """
        (S2) Each error of the system has its words.
        """
        for error, reason in [
            (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "nobody listens on the socket: /x"),
            (ConnectError(errno.EACCES, "x"), "no permission to connect to the socket: /x"),
            (ConnectError(errno.ENOENT, "x"), "the socket is missing: /x"),
            (ConnectError(errno.EMFILE, "x"), "no file descriptor is left for the socket: /x"),
            (ConnectError(string="odd"), "the socket cannot be connected to: /x"),
        ]:
            memory, connecting = self.attempt()
            memory.unixClients[0][1].clientConnectionFailed(None, Failure(error))
            self.assertEqual(str(self.failureResultOf(connecting, CannotConnect).value), reason)

    def test_noDescriptorForTheSocket(self) -> None:
        """
        (S22) The reactor raises when it cannot even make a socket.
        """
        memory = MemoryReactorClock()

        def connectUNIX(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        memory.connectUNIX = connectUNIX  # type: ignore[method-assign, assignment]
        endpoint = SocketEndpoint(memory, "/x", problem=lambda path, uid: None)
        failure = self.failureResultOf(endpoint.connect(Factory.forProtocol(Protocol)), CannotConnect)
        self.assertEqual(str(failure.value), "no file descriptor is left for the socket: /x")

    def test_cancelled(self) -> None:
        """
        An attempt that is given up is no reason.
        """
        _, connecting = self.attempt()
        connecting.cancel()
        failure = self.failureResultOf(connecting)
        self.assertTrue(failure.check(ConnectingCancelledError))


class SpareTests(SyncCase):
    """
    (S22) A descriptor kept for the daemon.
    """

    def test_heldAndReleased(self) -> None:
        """
        One descriptor is held, however often, and given back.
        """
        spare = SpareDescriptor()
        before = len(os.listdir("/proc/self/fd"))
        spare.hold()
        spare.hold()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        spare.release()
        spare.release()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_noneLeft(self) -> None:
        """
        Where none is to be had, none is held, and it is tried again later.
        """
        spare = SpareDescriptor()

        def opening(*args: object) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        patched = self.patch(os, "open", opening)
        spare.hold()
        patched.restore()
        before = len(os.listdir("/proc/self/fd"))
        spare.hold()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        spare.release()


class PeerTests(SyncCase):
    """
    Which process is at the other end.
    """

    def test_unixSocket(self) -> None:
        """
        (X23) A Unix socket tells the process: its id, and when it was started.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        transport = StringTransport()
        transport.getHandle = lambda: ours  # type: ignore[attr-defined]
        self.assertIn(f"{os.getpid()}-", peerProcess(transport) or "")

    def test_others(self) -> None:
        """
        Anything else tells nothing: memory, TCP, a closed socket.
        """
        self.assertIsNone(peerProcess(StringTransport()))
        tcp = socket.socket()
        closed = socket.socket(socket.AF_UNIX)
        closed.close()
        self.addCleanup(tcp.close)
        for handle in (tcp, closed):
            transport = StringTransport()
            transport.getHandle = lambda handle=handle: handle  # type: ignore[attr-defined]
            self.assertIsNone(peerProcess(transport))


class RealSocketTests(AsyncCase):
    """
    Over a real socket.
    """

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.path = os.path.join(folder, "s")

    async def _connected(self) -> None:
        accepted = Protocol()
        listening = await UNIXServerEndpoint(reactor, self.path).listen(Factory.forProtocol(lambda: accepted))
        gone: Deferred[None] = Deferred()

        class Client(Protocol):
            def connectionLost(self, reason: object = None) -> None:
                gone.callback(None)

        client = await SocketEndpoint(reactor, self.path).connect(Factory.forProtocol(Client))
        self.assertIn(f"{os.getpid()}-", peerProcess(client.transport) or "")
        client.transport.loseConnection()
        await gone
        await listening.stopListening()

    def test_connected(self) -> Deferred[None]:
        """
        A socket of this user's under C{/tmp} is connected to, and its process is known.
        """
        return Deferred.fromCoroutine(self._connected())

    async def _refused(self) -> None:
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(self.path)
        stale.close()
        try:
            await SocketEndpoint(reactor, self.path).connect(Factory.forProtocol(Protocol))
        except CannotConnect as error:
            self.assertEqual(str(error), f"nobody listens on the socket: {self.path}")
        else:
            self.fail("connected to a stale socket")

    def test_staleSocket(self) -> Deferred[None]:
        """
        (S2) A socket file that nobody listens on.
        """
        return Deferred.fromCoroutine(self._refused())

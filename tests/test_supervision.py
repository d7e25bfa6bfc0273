"""
Tests for L{openai_server.supervision}.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue
from twisted.internet.protocol import DatagramProtocol

from openai_server.supervision import Supervisor, supervisorFrom
from tests.program import launch
from tests.support import AsyncCase, SyncCase, TestClock


class SupervisionTests(SyncCase):
    """
    What a datagram socket hears.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()

    def listening(self, address: str) -> socket.socket:
        """
        A socket that takes what is told.
        """
        taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(taking.close)
        taking.setblocking(False)
        taking.bind(address)
        return taking

    def path(self) -> str:
        """
        A path that is short enough for a socket.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return str(Path(folder.name) / "notify")

    def supervisor(self, **environ: str) -> Supervisor:
        """
        Whom this environment names.
        """
        return supervisorFrom(environ, self.clock, os.getpid())

    def heard(self, taking: socket.socket) -> list[bytes]:
        """
        All that was told since the last time.
        """
        found = []
        try:
            while True:
                found.append(taking.recv(100))
        except BlockingIOError:
            return found

    def test_way(self) -> None:
        """
        Ready, signs of life at half the watchdog's time, also while it stops.
        """
        path = self.path()
        taking = self.listening(path)
        said = self.supervisor(NOTIFY_SOCKET=path, WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid()))
        self.assertEqual(self.heard(taking), [])
        said.ready()
        self.assertEqual(self.heard(taking), [b"READY=1"])
        self.clock.pump([1.9])
        self.assertEqual(self.heard(taking), [])
        self.clock.pump([0.1, 2.0])
        self.assertEqual(self.heard(taking), [b"WATCHDOG=1"] * 2)
        said.stopping()
        self.clock.pump([2.0])
        self.assertEqual(self.heard(taking), [b"STOPPING=1", b"WATCHDOG=1"])

    def test_abstract(self) -> None:
        """
        The address may be one without a file.
        """
        name = f"openai-server-{secrets.token_hex(8)}"
        taking = self.listening(f"\0{name}")
        self.supervisor(NOTIFY_SOCKET=f"@{name}").ready()
        self.assertEqual(self.heard(taking), [b"READY=1"])

    def test_notOurs(self) -> None:
        """
        A watchdog of another process, or none that can be read, is not fed.
        """
        path = self.path()
        taking = self.listening(path)
        for environ in ({"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}):
            self.supervisor(NOTIFY_SOCKET=path, **environ).ready()
            self.assertEqual(self.heard(taking), [b"READY=1"])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """
        Nothing happens where nobody asked, or nobody is there any more.
        """
        self.supervisor(WATCHDOG_USEC="4000000").ready()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.supervisor(NOTIFY_SOCKET="/nowhere/notify").ready()


class Notices(DatagramProtocol):
    """
    What was told, in order.
    """

    def __init__(self) -> None:
        self.queue: DeferredQueue[bytes] = DeferredQueue()

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """
        One thing was told.
        """
        self.queue.put(datagram)


class ProcessTests(AsyncCase):
    """
    The whole program.
    """

    async def test_program(self) -> None:
        """
        (P24) It is ready when it listens, gives signs of life, and says that it stops.
        """
        notices = Notices()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "notify")
        port = reactor.listenUNIXDatagram(path, notices)  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        state = Path(self.mktemp()).absolute()
        state.mkdir()
        arguments = ("--port", "0", "--embedded", "--store", "memory:")
        program = launch(self, state, *arguments, NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
        self.assertEqual(await notices.queue.get(), b"READY=1")
        self.assertEqual(await notices.queue.get(), b"WATCHDOG=1")
        await program.whenSaid("listens on ")
        program.signal(signal.SIGTERM)
        while (heard := await notices.queue.get()) != b"STOPPING=1":
            self.assertEqual(heard, b"WATCHDOG=1")
        self.assertEqual(await program.ended, 0)

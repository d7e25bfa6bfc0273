"""
What the web room takes for granted of Twisted, and whether our transport in
memory is like Twisted's.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol
from twisted.web.http import HTTPChannel

from tests.support import SyncCase
from tests.web.transports import WireTransport


class NullReactor:
    """
    A reactor that is turned by hand.
    """

    def addReader(self, reader: object) -> None: ...
    def removeReader(self, reader: object) -> None: ...
    def addWriter(self, writer: object) -> None: ...
    def removeWriter(self, writer: object) -> None: ...


class SlowDescriptor(FileDescriptor):
    """
    Twisted's own transport, over a kernel of so many bytes.
    """

    connected = 1

    def __init__(self, kernelSize: int) -> None:
        super().__init__(NullReactor())
        self.kernelSize = kernelSize
        self.kernel = b""

    def writeSomeData(self, data: bytes) -> int:
        """
        As much as there is room for.
        """
        count = min(self.kernelSize - len(self.kernel), len(data))
        self.kernel += bytes(data[:count])
        return count

    def step(self) -> None:
        """
        One turn of the reactor.
        """
        if self.dataBuffer or self._tempDataLen:
            self.doWrite()


class Recorder:
    """
    A producer that writes down what it is told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda: self.told.append(name)


class LikenessTests(SyncCase):
    """
    L{WireTransport} does to a producer what L{FileDescriptor} does.
    """

    def told(self, transport: Any) -> list[str]:
        """
        What a producer is told that writes and is read from in this way.
        """
        recorder = Recorder()
        transport.registerProducer(recorder, True)
        steps = ((65536, 0), (1, 0), (1, 1000), (0, 70_000), (0, 70_000), (200_000, 1), (0, 300_000))
        for write, read in steps:
            transport.write(b"x" * write)
            recorder.told.append(str(write))
            transport.step()
            transport.kernel = transport.kernel[read:]
            transport.step()
        return recorder.told

    def test_pausesAndResumes(self) -> None:
        """
        Paused at each write that leaves more than the buffer's size; resumed
        when nothing is left, and not before.
        """
        for kernelSize in (100, 4096, 100_000, 1 << 20):
            theirs = self.told(SlowDescriptor(kernelSize))
            ours = self.told(WireTransport(Protocol(), kernelSize))
            self.assertEqual(ours, theirs)
        self.assertIn("pauseProducing", theirs)
        self.assertIn("resumeProducing", theirs)

    def test_bufferSize(self) -> None:
        """
        The size that our slices are made for.
        """
        self.assertEqual(WireTransport.bufferSize, FileDescriptor.bufferSize)


class AssumptionTests(SyncCase):
    """
    V14: the private names of twisted.web's channel that ours uses.
    """

    def test_names(self) -> None:
        """
        They are there, with the values of a fresh channel.
        """
        channel = HTTPChannel()
        for name, value in (
            ("_handlingRequest", False),
            ("_dataBuffer", []),
            ("_waitingForTransport", False),
            ("_receivedHeaderSize", 0),
            ("_receivedHeaderCount", 0),
            ("_buffer", b""),
        ):
            self.assertEqual(getattr(channel, name), value, name)
        for name in ("_respondToBadRequestAndDisconnect", "_send100Continue", "checkPersistence"):
            self.assertTrue(callable(getattr(channel, name)), name)

"""
Connections over real sockets, whose transports hold bytes as only real ones do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.task import deferLater

from openai_server.api.chat.dialect import ChatDialect
from openai_server.api.dialect import Dialect
from openai_server.errors import End
from openai_server.web.admission import Admission
from openai_server.web.routes import Routes
from openai_server.web.sendqueue import QUEUE_BYTES, SLICE
from openai_server.web.site import APISite
from tests.support import AsyncCase, TestClock
from tests.web.support import Asked, FixedModels, RecordingChat, post, ring

EVENT = b"data: " + b"z" * 50_000 + b"\n\n"
#: More than the system and Twisted hold for a socket of the sizes below.
HELD = 1024 * 1024


class SocketCase(AsyncCase):
    """
    One client on a socket pair; the site's time is moved by hand.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.chat = RecordingChat()
        dialects: dict[str, Dialect] = {"/v1/chat/completions": ChatDialect()}
        admission = Admission(ring())
        routes = Routes(self.chat, dialects, FixedModels(), admission, lambda: None)
        self.site = APISite(routes.resource(), self.clock, admission=admission)
        ours, self.client = socket.socketpair()
        for end in (ours, self.client):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            end.setblocking(False)
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, self.site)  # type: ignore[attr-defined]
        ours.close()
        self.addCleanup(self.hangUp)

    async def hangUp(self) -> None:
        """
        Close the client's end, and wait until ours is closed too.
        """
        self.client.close()
        await self.until(lambda: not self.site._channels)

    async def until(self, isSo: Callable[[], object]) -> None:
        """
        Turn the reactor until something is so.
        """
        for _ in range(2000):
            if isSo():
                return
            await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
        self.fail("it never came to be so")

    async def asked(self) -> Asked:
        """
        Send a request, and give it as it arrived.
        """
        self.client.sendall(post())
        await self.until(lambda: self.chat.asked)
        return self.chat.asked[0]

    def taken(self) -> bytes:
        """
        What the client can read now.
        """
        try:
            return self.client.recv(1 << 20)
        except BlockingIOError:
            return b""


class UnreadTests(SocketCase):
    """
    The client does not read.
    """

    async def test_isBoundedAndCut(self) -> None:
        """
        K7: what waits for it is counted here, not in the transport, and it is
        cut a second after too much waits.
        """
        asked = await self.asked()
        stream = asked.stream()
        while stream.queued <= QUEUE_BYTES:
            stream.write(EVENT)
            self.assertLess(asked.request.sentLength - stream.queued, HELD)
        stream.write(EVENT)
        self.clock.advance(1)
        self.assertEqual((asked.gone, stream.queued), ([End.CLIENT_STUCK], 0))

    async def test_largeBodyWaits(self) -> None:
        """
        A body of megabytes leaves a slice at a time, and the client gets all
        of it when it reads.
        """
        asked = await self.asked()
        body = b"z" * 5_000_000
        asked.request.answer(body)
        self.assertGreater(asked.request.channel.queue.queued, len(body) - HELD - SLICE)
        received = bytearray()

        def isRead() -> bool:
            received.extend(self.taken())
            return len(received) > len(body)

        await self.until(isRead)
        self.assertEqual(bytes(received).partition(b"\r\n\r\n")[2], body)
        asked.answer.callback(None)

    async def test_everythingInOrder(self) -> None:
        """
        What went straight to the socket, to the transport and through the
        queue arrives in the order in which it was written.
        """
        asked = await self.asked()
        stream = asked.stream()
        received = bytearray()
        events = [b"data: %d %b\n\n" % (number, b"z" * (number * 997 % 40_000)) for number in range(60)]
        for number, event in enumerate(events):
            stream.write(event)
            if number % 3 == 0:
                received += self.taken()
        stream.finish()

        def isRead() -> bool:
            received.extend(self.taken())
            return received.endswith(b"0\r\n\r\n")

        await self.until(isRead)
        rest = bytes(received).partition(b"\r\n\r\n")[2]
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        self.assertEqual(body, b"".join(events))
        asked.answer.callback(None)


class HalfClosedTests(SocketCase):
    """
    The client has closed its side.
    """

    async def test_isAnsweredInFull(self) -> None:
        """
        It still reads, so it gets its answer and then the end.
        """
        asked = await self.asked()
        self.client.shutdown(socket.SHUT_WR)
        await self.until(lambda: asked.request.channel._hasEnded)
        asked.answer.callback(b'{"a":1}')
        received: list[bytes] = []

        def isClosed() -> bool:
            try:
                received.append(self.client.recv(1 << 16))
            except BlockingIOError:
                return False
            return not received[-1]

        await self.until(isClosed)
        self.assertTrue(b"".join(received).endswith(b'{"a":1}'))

    async def test_isSeenToBeGone(self) -> None:
        """
        It reads no more: a sign of life finds that out, and the work ends.
        """
        asked = await self.asked()
        self.client.close()
        await self.until(lambda: self.clock.advance(1) or asked.wasCancelled)

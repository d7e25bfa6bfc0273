"""
Faults of the daemon's socket, as clients see them.
"""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError, getConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorUNIX
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport

from openai_server.daemon.backlog import OUTBOUND_LIMIT
from openai_server.daemon.endpoint import SocketEndpoint
from openai_server.daemon.protocol import ThrumProtocol
from tests.dialects import inBothAPIs
from tests.faults.support import FaultCase, chunk, toneOf
from tests.web.transports import WireTransport
from tests.world import Client, MemoryEndpoint, World


class UnreachableReactor:
    """
    A reactor with which no connection to a Unix socket succeeds.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def connectUNIX(self, address: str, factory: Any, timeout: float, checkPID: int) -> None:
        factory.clientConnectionFailed(None, Failure(getConnectError((self.number, "no"))))


class NarrowCable:
    """
    A connection to the daemon whose bytes wait while the daemon does not read.

    @ivar isRead: the daemon reads.
    @ivar wire: the server's end.
    """

    def __init__(self, world: World, protocolFactory: IProtocolFactory) -> None:
        self.isRead = True
        self._server: Any = world.daemon.buildProtocol()
        self._transport = FakeTransport(self._server, True)
        self._server.makeConnection(self._transport)
        self.client: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        self.wire = WireTransport(self.client, kernelSize=65536)

    def pump(self) -> bool:
        """
        Move what can be moved.
        """
        self.wire.run()
        data = self.wire.read() if self.isRead else b""
        if data:
            self._server.dataReceived(data)
        back = self._transport.getOutBuffer()
        if back:
            self.wire.send(back)
        return bool(data or back)


def ready(world: World) -> Client:
    """
    What C{/readyz} says.
    """
    client = world.client()
    client.send(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    client.wire.read()
    return client


@inBothAPIs
class NoSocketTests(FaultCase):
    """
    There is no way to the daemon.
    """

    def unreachable(self, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> World:
        """
        A world that was started without a way to its daemon.
        """
        self.way = self.patch(MemoryEndpoint, "connect", lambda endpoint, factory: connect(factory))
        world = World(self, isConnected=False)
        world.advance(2)
        return world

    def test_missingAtStart(self) -> None:
        """
        The server is up and answers at once, 503 and when to ask again; the
        log says so once; when the daemon comes the next request works (S1).
        """
        world = self.unreachable(lambda factory: fail(ConnectionRefusedError()))
        for stream in (True, False):
            client = world.ask("hello", model="echo", stream=stream)
            self.assertRefused(client, 503, "daemon_unavailable", retryAfter="1")
        self.assertEqual(world.ends, ["up-down", "up-down"])
        said = [event for event in world.logged if "no connection to the daemon" in event["log_format"]]
        self.assertEqual(len(said), 1)
        self.way.restore()
        world.advance(1.5)
        client = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(client, "hello")

    def test_askedWhenItIsJustBack(self) -> None:
        """
        The next attempt is made for the request, and answers it (S24).
        """
        world = self.unreachable(lambda factory: fail(ConnectionRefusedError()))
        world.advance(60)
        self.way.restore()
        client = world.ask("hello", model="echo")
        world.advance(0.05, 0.01)
        self.assertIsNone(world.link.whyNotReady)
        world.advance(3)
        self.assertAnswered(client, "hello")

    def test_askerLeaves(self) -> None:
        """
        Nothing is left of a client that leaves while the daemon is tried (S24).
        """
        world = World(self)
        world.daemon.faults.muteBreath = True
        world.daemon.cutConnections()
        world.advance(0.5)
        client = world.ask("hello")
        client.leave()
        world.advance(1)
        self.assertEqual(world.ends[-1], "cl-gone")

    def test_reasonIsShown(self) -> None:
        """
        A stale socket, a plain file, a folder, no permission, a path that is
        too long or whose socket is somebody else's: 503 for requests, the
        reason for the operator (S2, S3).
        """
        # Not below the test's own folder: the path of a socket must be short.
        folder = Path(mkdtemp())
        self.addCleanup(rmtree, folder)
        plain = folder / "plain"
        plain.write_text("")
        foreign = cast("Callable[[str, int], str | None]", lambda path, uid: "belongs to another user")
        for path, number, problem, reason in [
            ("/a", errno.ENOENT, None, "missing"),
            ("/a", errno.ECONNREFUSED, None, "nobody listens"),
            ("/a", errno.EACCES, None, "no permission"),
            ("/a", errno.EMFILE, None, "no file descriptor is left"),
            (str(plain), 0, ..., "not a socket"),
            (str(folder), 0, ..., "not a socket"),
            ("/a" * 60, 0, ..., "longer than 107 bytes"),
            ("/tmp/x", 0, foreign, "another user"),
        ]:
            reactor = cast("IReactorUNIX", UnreachableReactor(number))
            if problem is ...:
                endpoint = SocketEndpoint(reactor, path)
            else:
                endpoint = SocketEndpoint(reactor, path, problem=problem or (lambda path, uid: None))
            world = self.unreachable(endpoint.connect)
            with self.subTest(reason=reason):
                self.assertRefused(ready(world), 503, "daemon_unavailable", retryAfter="1")
                self.assertIn(reason, world.clients[-1].error["message"])
                self.assertRefused(world.ask("hello"), 503, "daemon_unavailable", retryAfter="1")
            self.way.restore()

    def test_descriptorsAreThereAgain(self) -> None:
        """
        No descriptor was left to connect with; a second after there are some,
        requests are answered (S22).
        """
        reactor = cast("IReactorUNIX", UnreachableReactor(errno.EMFILE))
        world = self.unreachable(SocketEndpoint(reactor, "/a", problem=lambda path, uid: None).connect)
        world.advance(60)
        self.assertRefused(world.ask("hello"), 503, "daemon_unavailable", retryAfter="1")
        self.way.restore()
        world.advance(1)
        client = world.ask("hello", model="echo")
        world.advance(3)
        self.assertAnswered(client, "hello")


class HandshakeTests(FaultCase):
    """
    There is a connection, but nothing that works.
    """

    def test_noBreath(self) -> None:
        """
        The daemon stands still: requests get 503 after a second, each attempt
        ends after 5 s, and there is never more than one connection. It goes on
        when the daemon does (S4).
        """
        world = World(self)
        world.daemon.faults.muteBreath = True
        world.daemon.cutConnections()
        world.advance(0.1)
        most = 0
        for _ in range(30):
            client = world.ask("hello")
            world.advance(1)
            most = max(most, len(world.daemon.clients))
            self.assertRefused(client, 503, "daemon_unavailable", retryAfter="1")
        self.assertEqual(most, 1)
        # 30 s, an attempt every 5 s and a bit.
        self.assertIn(len(world.endpoint.pumps) - 1, (5, 6))
        world.daemon.faults.muteBreath = False
        world.advance(7)
        client = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(client, "hello")

    def test_closedAtOnce(self) -> None:
        """
        Connections are accepted and closed: 503, ever fewer attempts, and none
        in less than half a second after the one before (S5).
        """
        world = World(self)
        world.daemon.faults.closeOnConnect = True
        times: list[float] = []
        connect = world.endpoint.connect

        def counted(factory: IProtocolFactory) -> Deferred[IProtocol]:
            times.append(world.clock.seconds())
            return connect(factory)

        self.patch(world.endpoint, "connect", counted)
        world.daemon.cutConnections()
        world.advance(60, 0.01)
        self.assertRefused(world.ask("hello"), 503, "daemon_unavailable", retryAfter="1")
        gaps = [later - earlier for earlier, later in pairwise(times)]
        self.assertEqual(gaps, sorted(gaps[:6]) + gaps[6:])
        self.assertGreater(min(gaps[6:]), 0.5)
        world.daemon.faults.closeOnConnect = False
        world.advance(2)
        client = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(client, "hello")

    def test_cutInTheHandshake(self) -> None:
        """
        The connection breaks after each byte of the breath: 503 until the next
        attempt, which follows within a second (S6).
        """
        world = World(self)
        breath = len(b'{"chi":"breath","from":"daemon","protoVersion":"0.7.0","sessions":[]}\n')
        for size in range(breath):
            world.daemon.faults.rewrite = cutAt(world, size)
            world.daemon.cutConnections()
            world.advance(0.3, 0.05)
            refused = world.ask("hello")
            world.advance(1)
            world.daemon.faults.rewrite = None
            self.assertRefused(refused, 503, "daemon_unavailable", retryAfter="1")
            world.advance(1)
            self.assertEqual(ready(world).status, 200, size)


def cutAt(world: World, size: int, isMeant: Callable[[bytes], bool] = lambda line: True) -> Any:
    """
    A fault: of each line that is meant so many bytes are sent, and then the
    connection breaks.
    """

    def rewrite(line: bytes) -> list[bytes]:
        if not isMeant(line):
            return [line]
        world.clock.callLater(0, world.daemon.cutConnections)
        return [line[:size]]

    return rewrite


@inBothAPIs
class LossTests(FaultCase):
    """
    The connection is lost and comes back.
    """

    def test_beforeAnything(self) -> None:
        """
        An answer that has not begun is 502, and not to be asked again (S7).
        """
        for stream in (True, False):
            world = World(self)
            client = world.ask("hello", stream=stream)
            world.daemon.cutConnections()
            world.advance(0)
            client.wire.read()
            self.assertRefused(client, 502, "daemon_lost", mayRetry=False)
            self.assertEqual(world.ends, ["up-lost"])
            world.settle()

    def test_inMidAnswer(self) -> None:
        """
        A stream says that it is cut and ends without its end, a whole answer
        is 502: in the same turn of the reactor (S7).
        """
        world = World(self)
        self.half(world)
        world.daemon.cutConnections()
        self.assertLost(world, "daemon_lost", status=502, end="up-lost", seconds=0)
        world.settle()

    def test_allStreamsEnd(self) -> None:
        """
        Many answers at once: each of them ends, once (S7).
        """
        world = World(self, maxTurns=0)
        streams = [world.script({"say": "half"}, {"silence": 1}, stream=True) for _ in range(100)]
        world.advance(2)
        world.daemon.cutConnections()
        world.advance(0)
        for stream in streams:
            self.assertCut(stream, "daemon_lost", "half")
        self.assertEqual(world.ends, ["up-lost"] * 100)
        world.settle()

    def test_backAgain(self) -> None:
        """
        After a loss the next request works within 0.3 s: a hello comes before
        its prompt, nothing is sent again, and a conversation whose turn was
        lost goes on under another sid (S8).
        """
        world = World(self)
        first = [{"role": "user", "content": "one"}]
        client = world.ask(first)
        world.daemon.cutConnections()
        world.advance(0.3, 0.05)
        self.assertRefused(client, 502, "daemon_lost", mayRetry=False)
        again = world.ask(first)
        world.advance(1)
        self.assertAnswered(again, "one")
        self.assertEqual([tone["content"] for tone in world.sent("prompt")], ["one", "one"])
        self.assertEqual(len({tone["sid"] for tone in world.sent("prompt")}), 2)
        sent = [tone["chi"] for tone in world.recorder.tones if tone["chi"] in ("hello", "prompt")]
        self.assertEqual(sent, ["hello", "prompt", "hello", "prompt"])
        self.assertEqual(world.sent("attach"), [])
        world.settle()

    def test_lostAgainAndAgain(self) -> None:
        """
        The daemon is restarted time after time with answers under way: each
        ends with an error, each next one works (S8, U18).
        """
        world = World(self)
        for _ in range(20):
            self.half(world)
            world.daemon.restart()
            self.assertLost(world, "daemon_lost", status=502, end="up-lost", seconds=0)
            world.advance(2)
            client = world.ask("hello", model="echo", stream=True)
            world.advance(1)
            self.assertAnswered(client, "hello")
        self.assertEqual(len({tone["sid"] for tone in world.sent("prompt")}), 60)
        world.settle()

    def test_idleSessionGoesOn(self) -> None:
        """
        A conversation that was idle at the loss goes on in its warm session
        (S8).
        """
        world = World(self)
        first = world.ask("one")
        world.advance(1)
        world.daemon.cutConnections()
        world.advance(1)
        history = [{"role": "user", "content": "one"}, first.message, {"role": "user", "content": "two"}]
        second = world.ask(history)
        world.advance(1)
        self.assertAnswered(second, "two")
        self.assertEqual(second.header("x-hum-session"), "continued")
        one, two = world.sent("prompt")
        self.assertEqual((one["sid"], two["content"]), (two["sid"], "two"))
        world.settle()

    def test_halfATone(self) -> None:
        """
        A tone is cut in two by the loss, at each of its bytes: nothing of it is
        shown, and nothing of it is joined with what comes next (S9).
        """
        world = World(self)
        sizes = [*range(60), *range(-80, 0)]
        # How tones are read is the same for all APIs: some places are enough for the second.
        for size in sizes if self.api.isCut else sizes[::8]:
            world.daemon.faults.rewrite = cutAt(world, size, lambda line: b'"CUT"' in line)
            client = world.script({"say": "half"}, chunk("CUT"), {"silence": 1}, stream=True)
            world.advance(0.5)
            world.daemon.faults.rewrite = None
            self.assertCut(client, "daemon_lost", "half")
            world.advance(0.5)
            following = world.ask("next", model="echo", stream=True)
            world.advance(0.5)
            self.assertAnswered(following, "next")
        self.assertEqual(sum(world.link.badTones.values()), 0)


@inBothAPIs
class FramingTests(FaultCase):
    """
    Lines in odd pieces, of odd length, with odd content.
    """

    TEXT = 'a line\r\nof text \u2028 with \U0001f469\u200d\U0001f469\u200d\U0001f467 and \\n "quotes" '

    def cut(self, sizes: Callable[[], Iterator[int]]) -> None:
        """
        Let each read of the daemon's socket bring pieces of these sizes.
        """
        received = ThrumProtocol.dataReceived

        def inPieces(protocol: ThrumProtocol, data: bytes) -> None:
            each = sizes()
            while data:
                size = next(each)
                received(protocol, data[:size])
                data = data[size:]

        self.patch(ThrumProtocol, "dataReceived", inPieces)

    def test_anyPieces(self) -> None:
        """
        However the bytes are cut, the text is the same (S10).
        """
        randomly = random.Random(5)
        sizes: list[Callable[[], int]] = [
            *(lambda size=size: size for size in (1, 2, 3, 64, 1460, 65536)),  # type: ignore[misc]
            *(lambda most=most: randomly.randint(1, most) for most in (5, 200)),  # type: ignore[misc]
        ]
        for size in sizes:
            self.cut(lambda size=size: iter(size, None))  # type: ignore[misc]
            world = World(self)
            stream = world.script({"think": "hm"}, {"say": self.TEXT, "parts": 40}, stream=True)
            whole = world.script({"say": self.TEXT, "parts": 3})
            world.advance(1)
            self.assertAnswered(stream, self.TEXT)
            self.assertAnswered(whole, self.TEXT)

    def test_longLine(self) -> None:
        """
        A line of 16 MiB is a line: a whole answer gets all of it (S11).
        """
        world = World(self)
        long = "x" * (16 << 20)
        world.daemon.faults.rewrite = lambda line: [line.replace(b"LONG", long.encode())]
        client = world.script({"say": "a "}, chunk("LONG"))
        world.advance(1)
        self.assertEqual(len(client.message["content"]), len(long) + 2)
        self.assertEqual(world.ends, ["ok"])

    def test_tooLongLine(self) -> None:
        """
        A line beyond the bound is skipped, in one read or in many; the
        connection and all turns go on (S11).
        """
        self.patch(ThrumProtocol, "MAX_LENGTH", 1 << 16)
        for size in (1 << 20, 1000):
            self.cut(lambda size=size: iter(lambda: size, None))  # type: ignore[misc]
            world = World(self)
            steps = [{"say": "before "}, chunk("x" * (1 << 17)), {"say": "after"}]
            stream, whole = world.script(*steps, stream=True), world.script(*steps)
            world.advance(1)
            self.assertAnswered(stream, "before after")
            self.assertAnswered(whole, "before after")
            self.assertEqual(world.link.badTones, {"too-long": 2})
            self.assertEqual(len(world.endpoint.pumps), 1)

    def test_endlessLine(self) -> None:
        """
        A line that does not end is not kept; when it does end after all, what
        follows is read (S12).
        """
        self.patch(ThrumProtocol, "MAX_LENGTH", 1 << 16)
        self.cut(lambda: iter(lambda: 1000, None))
        world = World(self)
        world.daemon.faults.rewrite = lambda line: [line[:-1] if b"ENDLESS" in line else line]
        rest = [chunk("ENDLESS" + "x" * 1000)] * 200
        client = world.script({"say": "before "}, *rest, {"line": ""}, {"say": "after"}, stream=True)
        world.advance(1)
        self.assertAnswered(client, "before after")
        self.assertEqual(world.link.badTones, {"too-long": 1})
        self.assertEqual(len(world.endpoint.pumps), 1)

    def test_badLines(self) -> None:
        """
        What is no tone is dropped in the midst of an answer, which is as if it
        had not come; the log says so once, without a word of it (S13).
        """
        bad = [
            "", "{", "}", "null", "true", "7", '"text"', "[]", "{}", "SECRET", '{"chi":null}', '{"chi":7}',
            '{"chi":""}', '{"chi":"unheard-of","sid":"SECRET"}', '{"chi":["chunk"]}', '{"chi":"chunk"}',
            '{"chi":"chunk","sid":7,"delta":"SECRET"}', '{"chi":"chunk","sid":null,"delta":"SECRET"}',
            '{"chi":"chunk","sid":{},"chunkType":"text_delta","delta":"SECRET"}', '{"chi":"finish"}',
            '{"chi":"finish","sid":3}', '{"chi":"echo"}', '{"chi":"tool-call","sid":"a"}', "\xff\xfe",
            '{"chi":"chunk","sid":"\xff","delta":"SECRET"}', '{"chi":"chunk","sid":"a","delta":NaN}',
            '{"chi":"chunk","sid":"a","delta":"\\ud800"}', "[" * 3000, '{"a":' * 3000, "\x00\x00",
        ]  # fmt: skip
        steps = [step for line in bad for step in ({"line": line}, chunk("x"))]
        for stream in (True, False):
            world = World(self)
            client = world.script(*steps, stream=stream)
            world.advance(1)
            self.assertAnswered(client, "x" * len(bad))
            self.assertGreater(sum(world.link.badTones.values()), 20)
            said = [event for event in world.logged if "dropped lines" in event["log_format"]]
            self.assertEqual(len(said), 1)
            self.assertNotIn("SECRET", repr(said))

    def test_harmlessBytes(self) -> None:
        """
        CRLF, blank lines, blanks around a line and a BOM on a line of its own
        change nothing (S14).
        """
        rewrites: list[Callable[[bytes], list[bytes]]] = [
            lambda line: [line[:-1], b"\r\n"],
            lambda line: [b"\n\r\n\n", line],
            lambda line: [b" \t", line[:-1], b"  \n"],
            lambda line: [b"\xef\xbb\xbf\n", line],
        ]
        for rewrite in rewrites:
            world = World(self)
            world.daemon.faults.rewrite = rewrite
            client = world.ask("hello there", model="echo", stream=True)
            world.advance(1)
            self.assertAnswered(client, "hello there")


@inBothAPIs
class SlowDaemonTests(FaultCase):
    """
    The daemon does not keep up, or says nothing.
    """

    def test_daemonDoesNotRead(self) -> None:
        """
        When too much waits for the daemon new prompts get 503, while a cancel
        is still sent. When it reads again all goes on (S15).
        """
        cables: list[NarrowCable] = []

        def connect(endpoint: MemoryEndpoint, factory: IProtocolFactory) -> Any:
            cables.append(NarrowCable(world, factory))
            endpoint.pumps.append(cast("Any", cables[-1]))
            return succeedWith(cables[-1].client)

        world = World(self, maxTurns=0)
        self.patch(MemoryEndpoint, "connect", connect)
        world.daemon.cutConnections()
        world.advance(6)
        leaving = world.script({"say": "half"}, {"silence": 1}, stream=True)
        world.advance(1)
        self.assertEqual(leaving.text, "half")
        cables[-1].isRead = False
        large = "x" * (3 << 20)
        waiting = [world.ask(large) for _ in range(3)]
        self.assertEqual([client.status for client in waiting], [None] * 3)
        self.assertGreater(3 * len(large), OUTBOUND_LIMIT)
        self.assertRefused(world.ask("hello"), 503, "daemon_unavailable", retryAfter="1")
        self.assertEqual(ready(world).status, 503)
        leaving.leave()
        self.assertEqual(world.sent("cancel"), [])
        cables[-1].isRead = True
        world.advance(1)
        self.assertEqual(len(world.sent("cancel")), 1)
        for client in waiting:
            self.assertEqual(len(client.message["content"]), len(large))
        client = world.ask("hello")
        world.advance(1)
        self.assertAnswered(client, "hello")
        self.kill(world)

    def test_noEcho(self) -> None:
        """
        The prompt is written and not echoed: nothing is sent before 10 s, then
        503, which is not to be asked again; the turn is cancelled and its
        session never used again (S16).
        """
        for stream in (True, False):
            world = World(self)
            world.daemon.faults.losesPrompt = lambda tone: True
            world.daemon.faults.dropTone = partial(isPromptsEcho, world)
            client = world.ask("hello", stream=stream)
            world.advance(9.75)
            self.assertIsNone(client.status)
            world.advance(0.5)
            self.assertRefused(client, 503, "daemon_unavailable", mayRetry=False)
            self.assertEqual(world.ends, ["up-stall"])
            self.assertEqual(len(world.sent("cancel")), 1)
            world.daemon.faults.losesPrompt = world.daemon.faults.dropTone = None
            again = world.ask("hello", stream=stream)
            world.advance(1)
            self.assertAnswered(again, "hello")
            self.assertEqual(len({tone["sid"] for tone in world.sent("prompt")}), 2)
            world.advance(601, 5)
            world.settle()

    def test_pastDusk(self) -> None:
        """
        The daemon says that the prompt came too late: 503 and ask again, since
        nothing ran (S17).
        """
        for stream in (True, False):
            world = World(self)
            world.daemon.faults.losesPrompt = lambda tone: True
            world.daemon.faults.rewrite = tooLate(world)
            client = world.ask("hello", stream=stream)
            world.advance(0.5)
            self.assertRefused(client, 503, "daemon_unavailable", retryAfter="1")
            self.assertEqual(world.ends, ["up-down"])
            self.assertEqual(world.sent("cancel"), [])
            world.settle()

    def test_oddEchoes(self) -> None:
        """
        Echoes that come twice, for unknown ids, or after the end change
        nothing, C{ok} or not (S18).
        """
        world = World(self)

        def rewrite(line: bytes) -> list[bytes]:
            prompts = world.sent("prompt")
            echoes = [
                {"chi": "echo", "rid": rid, "ok": ok}
                for rid in ["zz-1", *(tone["rid"] for tone in prompts)]
                for ok in (True, False)
            ]
            more = [json.dumps(echo).encode() + b"\n" for echo in echoes]
            return [line, *more] if toneOf(line)["chi"] != "breath" else [line]

        client = world.ask("hello there", model="echo", stream=True)
        world.flush()
        world.daemon.faults.rewrite = rewrite
        world.advance(1)
        self.assertAnswered(client, "hello there")
        self.assertEqual(world.ends, ["ok"])
        world.settle()

    def test_idleConnectionIsWatched(self) -> None:
        """
        An idle connection carries a heartbeat every 15 s; one that is not
        answered within 10 s costs the connection, and a new one is made (S19).
        """
        world = World(self)
        world.advance(60)
        self.assertEqual(len(world.sent("perf-mark")), 4)
        self.assertEqual(len(world.endpoint.pumps), 1)
        world.daemon.faults.muteEchoes = True
        world.advance(26)
        self.assertEqual(len(world.endpoint.pumps), 2)
        world.daemon.faults.muteEchoes = False
        world.advance(2)
        client = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(client, "hello")

    def test_daemonStandsStill(self) -> None:
        """
        It does so with answers under way: they end within 25 s (S19).
        """
        world = World(self)
        self.half(world)
        world.daemon.faults.dropTone = lambda line: True
        self.assertLost(world, "daemon_lost", status=502, end="up-lost", seconds=25.5)
        world.settle()


def tooLate(world: World) -> Callable[[bytes], list[bytes]]:
    """
    A fault: the echoes of prompts say that these are past dusk.
    """

    def rewrite(line: bytes) -> list[bytes]:
        return [line.replace(b'"ok":true', b'"ok":false') if isPromptsEcho(world, line) else line]

    return rewrite


def isPromptsEcho(world: World, line: bytes) -> bool:
    """
    A line of the daemon's says that it has read a prompt.
    """
    return toneOf(line).get("rid") in {prompt["rid"] for prompt in world.sent("prompt")}


def succeedWith(protocol: IProtocol) -> Deferred[IProtocol]:
    """
    A connection that is there.
    """
    connected: Deferred[IProtocol] = Deferred()
    connected.callback(protocol)
    return connected


@inBothAPIs
class LostTonesTests(FaultCase):
    """
    The daemon drops tones, or sends many.
    """

    def test_lostFinish(self) -> None:
        """
        An answer whose finish was lost is never taken for complete: after 900 s
        of silence it ends as an error (S20).
        """
        world = World(self)
        world.daemon.faults.dropTone = lambda line: b'"chi":"finish"' in line
        stream = world.script({"say": "half"}, stream=True)
        whole = world.script({"say": "half"})
        world.advance(895, 5)
        self.assertEqual((stream.text, stream.isComplete, whole.status), ("half", False, None))
        self.assertLost(world, "upstream_timeout", status=504, end="up-stall", seconds=10)
        self.kill(world)

    def test_lostStart(self) -> None:
        """
        Whatever else is lost, all text that came is given (S20).
        """
        for lost in (b"session-ready", b"text_start", b"content_block_stop"):
            world = World(self)
            world.daemon.faults.dropTone = lambda line, lost=lost: lost in line  # type: ignore[misc]
            client = world.script({"say": "one "}, {"say": "two"}, stream=True)
            world.advance(1)
            self.assertAnswered(client, "one two")

    def test_burst(self) -> None:
        """
        Very many tones at once come out complete; the socket is read on,
        whatever the clients do (S21).
        """
        pauses: list[FakeTransport] = []
        self.patch(FakeTransport, "pauseProducing", pauses.append)
        world = World(self)
        slow = world.client(kernelSize=4096)
        body = {"model": "burst", "messages": [{"role": "user", "content": "5000"}], "stream": True}
        slow.post(body)
        reading = world.ask("20000", model="burst", stream=True)
        whole = world.ask("20000", model="burst")
        world.until(lambda: reading.isComplete and whole.isComplete)
        text = "".join(f"{number:06d} " for number in range(20000))
        self.assertAnswered(reading, text)
        self.assertAnswered(whole, text)
        self.assertEqual(pauses, [])


class OtherDaemonTests(FaultCase):
    """
    Another daemon takes the place of the first.
    """

    def test_otherVersion(self) -> None:
        """
        One that says another version of thrum is served, and the log warns
        once for each change (S23).
        """
        world = World(self)

        def warnings() -> list[Any]:
            return [event["theirs"] for event in world.logged if "theirs" in event]

        for version, said in [("0.8.0", 1), ("0.8.0", 1), ("0.7.0", 2), ("9", 3)]:
            world.daemon.faults.protoVersion = version
            world.daemon.restart()
            world.advance(3)
            client = world.ask("hello", model="echo")
            world.advance(1)
            self.assertAnswered(client, "hello")
            self.assertEqual(len(warnings()), said)

"""
Many streams at once: each client is given exactly its own text.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from random import Random

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.dialects import CHAT, inBothAPIs
from tests.machinery.models import TEST_MODELS
from tests.oracle import tagged
from tests.oracle.loaded import LoadedWorld
from tests.serving import Serving
from tests.support import AsyncCase, SyncCase
from tests.world import Client

#: What clients do, and how many of 200 do it.
HABITS = {
    "reads": 60,
    "waits": 30,
    "leaves before headers": 20,
    "leaves": 30,
    "leaves before the finish": 10,
    "leaves after the finish": 10,
    "reads slowly": 16,
    "stops reading": 8,
    "is failed": 16,
}

#: End codes that a habit may lead to.
ENDS = {
    "reads": {"ok"},
    "waits": {"ok"},
    "leaves before headers": {"cl-gone"},
    "leaves": {"cl-gone", "ok"},
    "leaves before the finish": {"cl-gone"},
    "leaves after the finish": {"ok"},
    "reads slowly": {"ok"},
    "stops reading": {"cl-stuck"},
    "is failed": {"up-error"},
}


@dataclass
class Visitor:
    """
    One client and its request.

    @ivar begin: when it asks, in seconds of the test.
    @ivar patience: seconds after which it leaves.
    @ivar size: deltas of its answer, each with so much C{padding}.
    """

    tag: str
    habit: str
    begin: float
    patience: float
    size: int
    padding: int
    pace: float
    end: str
    client: Client | None = None
    sid: str = ""
    left: bool = False

    @classmethod
    def fromHabit(cls, number: int, habit: str, chance: Random) -> Visitor:
        """
        One of these, at random.
        """
        isSlow, isStuck = habit == "reads slowly", habit == "stops reading"
        size = 120 if isStuck else chance.randint(30 if isSlow else 5, 40)
        return cls(
            tag=f"t{number}",
            habit=habit,
            begin=chance.uniform(0, 1),
            patience=chance.uniform(0.3, 1.5) if habit == "leaves" else chance.uniform(0, 0.19),
            size=size,
            padding=8000 if isStuck else 4000 if isSlow else chance.choice((0, 0, 10, 300)),
            pace=0.02 if isStuck else chance.choice((0.0, 0.01) if isSlow else (0.0, 0.01, 0.03)),
            end=chance.choice(("failing", "dying")) if habit == "is failed" else "well",
        )

    @property
    def isStream(self) -> bool:
        """
        It wants to see its answer being made.
        """
        return self.habit != "waits"

    def ask(self, world: LoadedWorld) -> None:
        """
        Connect and ask.
        """
        self.client = world.client(2048 if self.habit in ("reads slowly", "stops reading") else 1 << 30)
        words = tagged.question(self.tag, self.size, self.padding, self.pace, self.end)
        messages = [{"role": "user", "content": words}]
        self.client.post({"model": "tagged", "messages": messages, "stream": self.isStream})
        self.sid = world.sent("prompt")[-1]["sid"]

    def act(self, now: float, chance: Random) -> None:
        """
        Do what it does.
        """
        assert self.client is not None
        match self.habit:
            case "stops reading":
                pass
            case "reads slowly":
                self.client.wire.read(chance.randint(0, 4_000))
            case "leaves" | "leaves before headers" if now > self.begin + self.patience:
                self.leave()
            case _:
                self.client.wire.read()

    def leave(self) -> None:
        """
        Read what has come, and go away.
        """
        if not self.left and self.client is not None:
            self.left = True
            self.client.wire.read()
            self.client.wire.leave()


@inBothAPIs
class ManyStreamsTests(SyncCase):
    """
    200 clients at once, of whom some leave and some do not keep up. Whatever
    they do and however the daemon's output is cut: each is given the text of
    its own answer, the whole of it or, where it looks cut, the beginning.
    """

    def test_eachGetsItsOwn(self) -> None:
        """
        One order of things.
        """
        self._serve(Random(1))

    def test_eachGetsItsOwnInAnotherOrder(self) -> None:
        """
        Another one.
        """
        self._serve(Random(2))

    def _serve(self, chance: Random) -> None:
        world = LoadedWorld(
            self, chance, daemonSettings={"models": {**TEST_MODELS, "tagged": tagged.model}}, maxTurns=0
        )
        habits = [habit for habit, number in HABITS.items() for _ in range(number)]
        visitors = [Visitor.fromHabit(number, habit, chance) for number, habit in enumerate(habits)]
        world.onFinish = partial(self._leaveAtTheFinish, visitors)
        self._play(world, visitors, chance)
        for visitor in visitors:
            self._check(visitor)
        self._checkEnds(world, visitors)
        self.assertEqual(world.pauses, 0, "the daemon was made to wait for a client")
        self._checkLoad(visitors)
        world.settle()

    def _play(self, world: LoadedWorld, visitors: list[Visitor], chance: Random) -> None:
        start = world.clock.seconds()
        waiting = sorted(visitors, key=lambda visitor: visitor.begin)
        while waiting or world.front.site.openResponses or world.link.turnCount:
            now = world.clock.seconds() - start
            self.assertLess(now, 60, "it does not come to an end")
            while waiting and waiting[0].begin <= now:
                waiting.pop(0).ask(world)
            for visitor in visitors:
                if visitor.client is not None and not visitor.left:
                    visitor.act(now, chance)
            world.turn(chance.uniform(0.005, 0.05))
        for visitor in visitors:
            # What the system holds for one that is slow can be read when all is sent.
            if visitor.habit == "reads slowly" and visitor.client is not None:
                visitor.client.wire.read()

    @staticmethod
    def _leaveAtTheFinish(visitors: list[Visitor], sid: str, isRead: bool) -> None:
        habit = "leaves after the finish" if isRead else "leaves before the finish"
        for visitor in visitors:
            if visitor.sid == sid and visitor.habit == habit:
                visitor.leave()

    def _check(self, visitor: Visitor) -> None:
        client = visitor.client
        assert client is not None
        if visitor.isStream:
            deltas = tagged.count(visitor.tag, client.text)
            isWhole = deltas == visitor.size
            saysDone = client.looksComplete
            signs = [client.finishReason == "stop"]
            if client.api.isCut:
                signs += [client.isComplete, client.events[-1:] == ["[DONE]"]]
            self.assertEqual(signs, [saysDone] * len(signs))
        else:
            deltas = tagged.count(visitor.tag, client.message["content"])
            isWhole = deltas == visitor.size
            saysDone = client.isComplete
        self.assertTrue(isWhole or not saysDone, "an answer that was cut looks complete")
        self.assertTrue(saysDone or "ok" not in ENDS[visitor.habit] or visitor.left, visitor)

    def _checkLoad(self, visitors: list[Visitor]) -> None:
        # Else the test shows less than it says.
        clients = [(visitor.habit, visitor.client) for visitor in visitors if visitor.client is not None]
        slow = [client for habit, client in clients if habit == "reads slowly" and client.wire.pauses]
        early = [client for habit, client in clients if "headers" in habit and client.status is None]
        self.assertGreater(len(slow), 5)
        self.assertGreater(len(early), 15)

    def _checkEnds(self, world: LoadedWorld, visitors: list[Visitor]) -> None:
        possible = [ENDS[visitor.habit] for visitor in visitors]
        certain = Counter(next(iter(ends)) for ends in possible if len(ends) == 1)
        self.assertEqual(len(world.ends), len(visitors), "not one end code for each request")
        found = Counter(world.ends)
        self.assertTrue(certain <= found, (certain, found))
        self.assertEqual(set(found), {"ok", "cl-gone", "cl-stuck", "up-error"})
        cancelled = [tone["sid"] for tone in world.sent("cancel")]
        self.assertEqual(len(cancelled), found["cl-gone"] + found["cl-stuck"])
        for visitor in visitors:
            if len(ENDS[visitor.habit]) == 1:
                isUnwanted = ENDS[visitor.habit] <= {"cl-gone", "cl-stuck"}
                self.assertEqual(visitor.sid in cancelled, isUnwanted, visitor)


class Caller(Protocol):
    """
    A client's end of a real connection.

    @ivar received: all bytes so far.
    @ivar limit: bytes after which it leaves, 0 for right behind its request;
        None to stay to the end.
    @ivar gone: fires when the connection is closed.
    """

    def __init__(self, tag: str, size: int, limit: int | None) -> None:
        self.tag = tag
        self.size = size
        self.limit = limit
        self.received = b""
        self.gone: Deferred[None] = Deferred()

    def ask(self) -> None:
        """
        Post the request.
        """
        messages = [{"role": "user", "content": tagged.question(self.tag, self.size, 20, 0.001, "well")}]
        body = json.dumps({"model": "tagged", "messages": messages, "stream": True}).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.limit == 0:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.limit is not None and len(self.received) >= self.limit:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class Read(Client):
    """
    What a caller has read.
    """

    api = CHAT

    def __init__(self, caller: Caller) -> None:
        self.wire = caller


class RealSocketTests(AsyncCase):
    """
    50 clients at once, on real sockets.
    """

    async def test_eachGetsItsOwn(self) -> None:
        """
        As in memory: each reads the text of its own answer, or the beginning
        of it where it left.
        """
        serving = Serving({"tagged": tagged.model})
        self.addCleanup(serving.stop, self)
        await serving.start(MAX_TURNS="0")
        chance = Random(4)
        limits = [chance.choice((None, None, 0, chance.randint(1, 9000))) for _ in range(50)]
        callers = [Caller(f"r{number}", 40, limit) for number, limit in enumerate(limits)]
        host, _, port = serving.url.removeprefix("http://").removesuffix("/v1").rpartition(":")
        endpoint = HostnameEndpoint(reactor, host, int(port))
        for caller in callers:
            await connectProtocol(endpoint, caller)
            caller.ask()
        await gatherResults([caller.gone for caller in callers])
        await serving.front.site.whenIdle()
        for caller in callers:
            self._check(caller)
        self.assertEqual(len(serving.ends), len(callers))
        self.assertGreaterEqual(Counter(serving.ends)["ok"], limits.count(None))

    def _check(self, caller: Caller) -> None:
        read = Read(caller)
        deltas = tagged.count(caller.tag, read.text) if read.isStream else 0
        saysDone = read.isStream and read.events[-1:] == ["[DONE]"]
        self.assertTrue(deltas == caller.size or not (saysDone or read.isComplete))
        self.assertTrue(caller.limit is not None or (saysDone and read.isComplete))

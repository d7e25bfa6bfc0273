"""
One rich turn, and a fault at each of its tones in turn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from openai_server import constants
from openai_server.daemon.waitlimits import WaitLimits
from tests.dialects import RESPONSES
from tests.faults.support import FaultCase, asked, tool
from tests.machinery.daemon import FaultyDaemon
from tests.world import Client, World

#: Reasoning, text, two calls at once, what they brought, and more text.
STEPS: tuple[dict[str, Any], ...] = (
    {"pace": 0.02},
    {"think": "hm"},
    {"say": "one two ", "parts": 3},
    {"tools": [{"tool": "look", "args": {"at": 1}}, {"tool": "hear", "args": {"at": 2}}]},
    {"say": " three", "parts": 2},
)
ANSWER = "one two [seen][heard] three"
TOOLS = [tool("look"), tool("hear")]
RESULTS = {"look": "seen", "hear": "heard"}

#: Short, so that what waits for a deadline ends soon.
TIMEOUTS = WaitLimits(heartbeat=3, echo=2, firstLife=4, stall=8, drain=3, notYet=1)

#: Seconds after which every turn has come to an end, whatever happened.
LONGEST = 40.0


class Run:
    """
    The turn, once, with a client that gives the results and gives up at the
    first error.

    @ivar clients: one a request.
    @ivar passed: the lines that really went to the server.
    @ivar seen: how many lines there would have been without the fault.
    @ivar unwanted: sids of the turns that ran when the client left.
    """

    def __init__(self, test: FaultCase, faultAt: int | None, fault: Fault | None) -> None:
        self.clients: list[Client] = []
        self.passed: list[bytes] = []
        self.seen = 0
        self.unwanted: set[str] = set()
        self._faultAt = faultAt
        self._fault = fault
        test.patch(constants, "DRAIN_SLOT", 2)
        self.world = World(test, daemonSettings={"toolPatience": 6.0}, timeouts=TIMEOUTS, parkTimeout=4)
        self.world.daemon.faults.rewrite = self._rewrite

    def _rewrite(self, line: bytes) -> list[bytes]:
        place, self.seen = self.seen, self.seen + 1
        pieces = [line]
        if self._fault is not None and self._faultAt is not None and place >= self._faultAt:
            pieces = self._fault(self, line, place - self._faultAt)
        self.passed += pieces
        return pieces

    def play(self) -> None:
        """
        Ask, and give results for as long as some are wanted.
        """
        messages: list[Any] = [asked(*STEPS)]
        for _ in range(5):
            headers = {"x_request_id": f"request-{len(self.clients)}"}
            client = self.world.ask(messages, tools=TOOLS, stream=True, headers=headers)
            self.clients.append(client)
            self._wait(client)
            if not client.isStream or client.finishReason != "tool_calls":
                break
            messages = [*messages, *exchange(client)]
        self.world.daemon.faults.rewrite = None

    def _wait(self, client: Client) -> None:
        for step in (0.02,) * 40 + (0.5,) * int(LONGEST / 0.5):
            if client.isComplete or client.wire.how is not None:
                return
            self.world.advance(step, step)

    def leave(self) -> None:
        """
        The client goes away; what runs for it now is to be cancelled.
        """
        self.unwanted = self.world.recorder.liveSids
        self.world.clients[-1].leave()

    @property
    def ends(self) -> Counter[tuple[str, str]]:
        """
        How often each request came to which end.
        """
        return Counter(
            (event["requestId"], event["end"])
            for event in self.world.logged
            if "end" in event and event.get("requestId", "").startswith("request-")
        )

    def said(self, sid: str) -> str:
        """
        The text that reached the server for a session.
        """
        return "".join(delta.delta for delta in deltasIn(self.passed) if delta.sid == sid)


#: Given the run, a line and its distance from the fault's place: what is sent.
Fault = Callable[[Run, bytes, int], list[bytes]]


def exchange(client: Client) -> Iterator[dict[str, Any]]:
    """
    The assistant's message with its calls, and their results.
    """
    calls = [{**call, "type": "function"} for call in client.calls]
    yield {"role": "assistant", "content": client.text, "tool_calls": calls}
    for call in calls:
        result = RESULTS.get(call["function"]["name"], "nothing")
        yield {"role": "tool", "tool_call_id": call["id"], "content": result}


class Delta(msgspec.Struct, tag_field="chi", tag="chunk"):
    """
    A text delta, and no more than what makes it one: a byte that is wrong in
    the rest of its line does no harm.
    """

    sid: str
    chunkType: Literal["text_delta"]
    delta: str


def deltasIn(pieces: list[bytes]) -> Iterator[Delta]:
    """
    The text deltas on the lines that these pieces make.
    """
    for line in b"".join(pieces).split(b"\n"):
        try:
            yield msgspec.json.decode(line, type=Delta)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue


# The faults.


def lose(run: Run, line: bytes, distance: int) -> list[bytes]:
    """
    The line is lost.
    """
    return [] if distance == 0 else [line]


def duplicate(run: Run, line: bytes, distance: int) -> list[bytes]:
    """
    The line comes twice.
    """
    return [line, line] if distance == 0 else [line]


class Swap:
    """
    The line comes after the one that follows it.
    """

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, run: Run, line: bytes, distance: int) -> list[bytes]:
        if distance == 0:
            self._held = line
            return []
        return [line, self._held] if distance == 1 else [line]


def halve(run: Run, line: bytes, distance: int) -> list[bytes]:
    """
    A newline comes in its midst.
    """
    return [line[: len(line) // 2] + b"\n", line[len(line) // 2 :]] if distance == 0 else [line]


class Corrupt:
    """
    One of its bytes is another one.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, run: Run, line: bytes, distance: int) -> list[bytes]:
        if distance:
            return [line]
        place = self._random.randrange(len(line) - 1)
        return [line[:place] + bytes([line[place] ^ self._random.randint(1, 255)]) + line[place + 1 :]]


class Break:
    """
    The connection to the daemon breaks after it: what the daemon says before
    it has noticed reaches nobody.
    """

    def __init__(self, way: Callable[[FaultyDaemon], object]) -> None:
        self._way = way
        self._isBroken = False

    def __call__(self, run: Run, line: bytes, distance: int) -> list[bytes]:
        if distance == 0:
            self._isBroken = True
            run.world.clock.callLater(0, self._noticed, run.world.daemon)
            return [line]
        return [] if self._isBroken else [line]

    def _noticed(self, daemon: FaultyDaemon) -> None:
        self._isBroken = False
        self._way(daemon)


def closeClient(run: Run, line: bytes, distance: int) -> list[bytes]:
    """
    The client leaves after it.
    """
    if distance == 0:
        run.world.clock.callLater(0, run.leave)
    return [line]


class SweepTests(FaultCase):
    """
    See the module (U23, and all of the daemon's rows at once).

    @cvar every: at how many of the tones there is one with the fault.
    """

    every = 1

    def play(self, faultAt: int | None = None, fault: Fault | None = None) -> Run:
        """
        Play the turn, and look whether all is as it has to be.
        """
        run = Run(self, faultAt, fault)
        run.play()
        self.assertEqual(
            sorted(name for name, _ in run.ends), [f"request-{n}" for n in range(len(run.clients))]
        )
        self.assertEqual(set(run.ends.values()), {1})
        for number, client in enumerate(run.clients):
            isOk = run.ends[f"request-{number}", "ok"] == 1
            if client.wire.how != "gone":
                self.assertEqual(client.looksComplete, isOk, client.wire.received)
            elif not isOk:
                self.assertFalse(client.looksComplete)
        self.assertText(run)
        self.assertLessEqual(run.unwanted, {tone["sid"] for tone in run.world.sent("cancel")})
        run.world.advance(LONGEST, 1)
        run.world.settle()
        after = run.world.ask("hello", model="echo", stream=True)
        run.world.advance(1.5, 0.5)
        self.assertAnswered(after, "hello")
        return run

    def assertText(self, run: Run) -> None:
        """
        What the clients were given is what came for their sessions, in order,
        and all of it if the last answer is good.
        """
        sids = [tone["sid"] for tone in run.world.sent("prompt")][: len(run.clients)]
        given: dict[str, str] = {}
        for number, client in enumerate(run.clients):
            # An answer goes on in the session before it, or begins one.
            sid = sids[min(number, len(sids) - 1)] if len(sids) == len(run.clients) else sids[0]
            given[sid] = given.get(sid, "") + (client.text if client.isStream else "")
        for sid, text in given.items():
            said = run.said(sid)
            self.assertEqual(said[: len(text)], text)
            last = len(run.clients) - 1
            if run.ends[f"request-{last}", "ok"] and sid == sids[-1]:
                self.assertEqual(said, text)

    def sweep(self, fault: Callable[[int], Fault]) -> Counter[str]:
        """
        Play the turn with this fault at each of its tones.

        @return: how often the last request ended how.
        """
        ends: Counter[str] = Counter()
        seen = self.play().seen
        for place in sorted({*range(0, seen, self.every), seen - 1}):
            try:
                run = self.play(place, fault(place))
            except AssertionError as error:
                self.fail(f"with the fault at tone {place}: {error}")
            finally:
                # One world at a time.
                self.doCleanups()
            ends[max(run.ends)[1]] += 1
        return ends

    def test_withoutAFault(self) -> None:
        """
        Two requests and the whole text; enough tones to be worth it.
        """
        run = self.play()
        self.assertEqual("".join(client.text for client in run.clients), ANSWER)
        self.assertEqual([client.finishReason for client in run.clients], ["tool_calls", "stop"])
        self.assertGreater(run.seen, 30)

    def test_lost(self) -> None:
        """
        Each of its tones is lost once.
        """
        self.assertEqual(set(self.sweep(lambda place: lose)), {"ok", "up-stall"})

    def test_duplicated(self) -> None:
        """
        Each comes twice once.
        """
        self.assertEqual(set(self.sweep(lambda place: duplicate)), {"ok"})

    def test_swapped(self) -> None:
        """
        Each changes places with the next once.
        """
        self.assertEqual(set(self.sweep(lambda place: Swap())), {"ok"})

    def test_halved(self) -> None:
        """
        Each is cut in two once.
        """
        self.assertEqual(set(self.sweep(lambda place: halve)), {"ok", "up-stall"})

    def test_corrupted(self) -> None:
        """
        In each, one byte becomes another one once. Sids are random, and so is
        what becomes of a line.
        """
        self.assertGreater(self.sweep(Corrupt)["ok"], 20 / self.every)

    def test_thrumCloses(self) -> None:
        """
        The connection breaks after each once: only after the finish nothing is
        lost.
        """
        ends = self.sweep(lambda place: Break(FaultyDaemon.cutConnections))
        self.assertEqual((set(ends), ends["ok"]), ({"ok", "up-lost"}, 1))

    def test_daemonRestarts(self) -> None:
        """
        The same with the daemon started again.
        """
        ends = self.sweep(lambda place: Break(FaultyDaemon.restart))
        self.assertEqual((set(ends), ends["ok"]), ({"ok", "up-lost"}, 1))

    def test_clientLeaves(self) -> None:
        """
        The client leaves after each once.
        """
        self.assertEqual(set(self.sweep(lambda place: closeClient)), {"cl-gone"})


class SweepResponsesTests(SweepTests):
    """
    The same with a client of the Responses API, at some of the tones.
    """

    api = RESPONSES
    every = 7

"""
What clients may do in the middle of an answer, and what the daemon is told of
it: rows K and P of docs/failures.md, through the whole server.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from openai_server import constants
from openai_server.web.http import EARLY_BYTES
from openai_server.web.sendqueue import QUEUE_BYTES, SLICE
from tests.dialects import inBothAPIs
from tests.machinery.models import TEST_MODELS
from tests.oracle import tagged
from tests.oracle.loaded import LoadedWorld
from tests.support import SyncCase
from tests.world import START_UP, Client, World

#: How a client's connection may be seen to end: a FIN, also of half of it, or a reset.
REASONS = (ConnectionDone, ConnectionLost, ConnectionAborted)

TAGGED = {"models": {**TEST_MODELS, "tagged": tagged.model}}


class ClientCase(SyncCase):
    """
    One client or two, and a model that says what it is told to.
    """

    def ask(self, world: World, tag: str = "a", **terms: Any) -> Client:
        """
        Post a request for a tagged answer.

        @param terms: of the answer: size, padding, pace, end; kernelSize, of
            the connection; headers; and members of the request.
        """
        kernelSize = terms.pop("kernelSize", 1 << 30)
        headers = terms.pop("headers", {})
        asked = {"size": 10, "padding": 0, "pace": 0.25, "end": "well"}
        words = tagged.question(tag, **{name: terms.pop(name, value) for name, value in asked.items()})
        body = {"model": "tagged", "messages": [{"role": "user", "content": words}], "stream": True, **terms}
        return world.client(kernelSize).post(body, **headers)

    def newWorld(self, **settings: Any) -> World:
        """
        A world whose worker has the model.
        """
        return World(self, daemonSettings=TAGGED, **settings)

    def assertCancels(self, world: World, count: int = 1) -> None:
        """
        This is what the server has sent to the daemon in this turn of the
        reactor, before any byte moves: one C{cancel} for each turn.
        """
        unsent = b"".join(world.endpoint.pumps[-1].clientIO.stream).splitlines()
        self.assertEqual([json.loads(line)["chi"] for line in unsent], ["cancel"] * count)

    def assertDrains(self, world: World, turns: int = 1) -> None:
        """
        The turn goes on in its worker, which does not heed C{cancel}, and
        reaches nobody; when it has ended, nothing of it is left, and no other
        turn is asked on its sid.
        """
        self.assertEqual(world.link.turnCount, turns)
        received = [client.wire.received for client in world.clients]
        world.advance(3)
        self.assertEqual([client.wire.received for client in world.clients], received)
        self.assertEqual(len(world.sent("cancel")), turns)
        self.assertGreater(world.link.counts["late_tones"], 0)
        world.settle()
        again = self.ask(world, "again")
        world.advance(3)
        self.assertEqual(tagged.count("again", again.text), 10)
        cancelled = {tone["sid"] for tone in world.sent("cancel")}
        self.assertNotIn(world.sent("prompt")[-1]["sid"], cancelled)
        world.settle()


@inBothAPIs
class LeavingTests(ClientCase):
    """
    Clients that close their connections.
    """

    def test_beforeTheFirstToken(self) -> None:
        """
        K1, U25: the turn is cancelled at once and drains; the answer was never
        begun.
        """
        for reason in REASONS:
            world = self.newWorld()
            client = self.ask(world)
            world.advance(START_UP / 2)
            client.wire.leave(reason())
            self.assertCancels(world)
            self.assertEqual((world.ends, client.status), (["cl-gone"], None))
            self.assertDrains(world)

    def test_inMidStream(self) -> None:
        """
        K2, K14, U24: the same when some text was sent, however the connection
        ends; what was read is the beginning of the answer, and looks cut.
        """
        for reason in REASONS:
            world = self.newWorld()
            client = self.ask(world)
            world.advance(START_UP + 0.35)
            client.wire.leave(reason())
            self.assertCancels(world)
            self.assertEqual(world.ends, ["cl-gone"])
            self.assertIn(tagged.count("a", client.text), range(1, 9))
            self.assertFalse(client.isComplete)
            self.assertDrains(world)

    def test_wholeAnswer(self) -> None:
        """
        K3: the same for an answer that is not a stream.
        """
        for reason in REASONS:
            world = self.newWorld()
            client = self.ask(world, stream=False)
            world.advance(START_UP + 0.35)
            client.wire.leave(reason())
            self.assertCancels(world)
            self.assertEqual((world.ends, client.status), (["cl-gone"], None))
            self.assertDrains(world)

    def test_rightBeforeTheFinish(self) -> None:
        """
        K5: the client goes in the turn of the reactor in which C{finish}
        comes, and before it is read: cancelled, once, and over.
        """
        world, client = self._leavingAtTheFinish(isRead=False)
        self.assertEqual((world.ends, client.isComplete), (["cl-gone"], False))
        self.assertEqual(len(world.sent("cancel")), 1)
        world.settle()

    def test_rightAfterTheFinish(self) -> None:
        """
        K5: the other order: the answer is complete and nothing is cancelled.
        """
        world, client = self._leavingAtTheFinish(isRead=True)
        self.assertEqual((world.ends, client.isComplete), (["ok"], True))
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def _leavingAtTheFinish(self, *, isRead: bool) -> tuple[World, Client]:
        world = LoadedWorld(self, Random(0), daemonSettings=TAGGED)
        client = self.ask(world)

        def onFinish(sid: str, wasRead: bool) -> None:
            if wasRead is isRead:
                client.wire.read()
                client.wire.leave()

        world.onFinish = onFinish
        world.advance(3)
        return world, client

    def test_rightBehindItsRequest(self) -> None:
        """
        K19: the headers are still held back, for an echo that does not come.
        The prompt is out, so it is cancelled.
        """
        world = self.newWorld()
        world.daemon.faults.muteEchoes = True
        client = self.ask(world)
        client.wire.leave()
        self.assertCancels(world)
        self.assertEqual((world.ends, client.status), (["cl-gone"], None))
        self.assertDrains(world)

    def test_whileHeadersAreHeld(self) -> None:
        """
        K19: the same after the echo, when nothing else has come.
        """
        world = self.newWorld()
        client = self.ask(world, pace=0.05)
        world.advance(START_UP / 4, START_UP / 4)
        client.wire.leave()
        self.assertCancels(world)
        self.assertEqual(client.status, None)
        self.assertDrains(world)

    def test_afterHeadersAlone(self) -> None:
        """
        K2: the headers have gone out because they were held for too long.
        """
        world = World(self, daemonSettings={"startUp": 60.0})
        client = world.ask("hello", model="echo", stream=True)
        world.advance(11)
        self.assertEqual((client.status, client.text), (200, ""))
        client.wire.leave()
        self.assertCancels(world)
        self.assertEqual(world.ends, ["cl-gone"])
        world.advance(60)
        world.settle()

    def test_waitingForASlot(self) -> None:
        """
        K6: whoever leaves the line has asked nothing, and is not asked for
        when a slot is free.
        """
        world = self.newWorld(maxTurns=1)
        first = self.ask(world, "a", size=30)
        second = self.ask(world, "b")
        third = self.ask(world, "c")
        world.advance(1)
        self.assertEqual((world.front.submitter.upstreams.waiting, len(world.sent("prompt"))), (2, 1))
        second.leave()
        self.assertEqual((world.front.submitter.upstreams.waiting, world.ends), (1, ["cl-gone"]))
        world.advance(12)
        self.assertEqual([tagged.count(*each) for each in (("a", first.text), ("c", third.text))], [30, 10])
        asked = [tone["content"].split()[0] for tone in world.sent("prompt")]
        self.assertEqual((asked, world.sent("cancel"), second.status), (["a", "c"], [], None))
        self.assertEqual(world.ends, ["cl-gone", "ok", "ok"])
        world.settle()

    def test_waitingAtTheGate(self) -> None:
        """
        K6: the same for a request that has its slot and waits for a turn with
        other tools.
        """
        world = self.newWorld()
        tools = [{"type": "function", "function": {"name": "look"}}]
        first = self.ask(world, "a")
        second = self.ask(world, "b", tools=tools)
        self.assertEqual((world.front.submitter.upstreams.taken, len(world.sent("prompt"))), (2, 1))
        second.leave()
        self.assertEqual((world.front.submitter.upstreams.taken, world.ends), (1, ["cl-gone"]))
        world.advance(3)
        self.assertEqual(tagged.count("a", first.text), 10)
        self.assertEqual((len(world.sent("prompt")), world.sent("cancel")), (1, []))
        world.settle()

    def test_waitingForItsSession(self) -> None:
        """
        K6: the same for a lone message whose session is busy.
        """
        world = self.newWorld()
        self.ask(world, "a", headers={"x-hum-session": "s"})
        second = self.ask(world, "b", headers={"x-hum-session": "s"})
        third = self.ask(world, "c", headers={"x-hum-session": "s"})
        self.assertEqual(len(world.sent("prompt")), 1)
        second.leave()
        self.assertEqual(world.ends, ["cl-gone"])
        world.advance(6)
        self.assertEqual(tagged.count("c", third.text), 10)
        asked = [tone["content"].split()[0] for tone in world.sent("prompt")]
        self.assertEqual((asked, world.sent("cancel")), (["a", "c"], []))
        world.settle()


@inBothAPIs
class SlowReaderTests(ClientCase):
    """
    Clients that do not keep up, and what they cost the others: nothing.
    """

    def pass_(self, world: World, seconds: float) -> None:
        """
        Let time pass in which no client reads by itself.
        """
        for _ in range(round(seconds / 0.1)):
            world.clock.advance(0.1)
            world.flush()

    def test_flood(self) -> None:
        """
        K7: a client that reads nothing while text keeps coming is cut a second
        after 256 KiB wait for it; what waits never is more than that and what
        comes in a second.
        """
        world = LoadedWorld(self, Random(0), daemonSettings=TAGGED)
        stuck = self.ask(world, "a", size=80, padding=8000, pace=0.1, kernelSize=4096)
        other = self.ask(world, "b", size=100)
        (channel,) = (each for each in world.front.site._channels if each.transport is stuck.wire)
        most = 0
        while "cl-stuck" not in world.ends:
            self.assertLess(world.clock.seconds(), 30)
            world.turn(0.1)
            most = max(most, channel.queue.queued)
        self.assertIn(most, range(QUEUE_BYTES, QUEUE_BYTES + 12 * 9000))
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertEqual((channel.queue.queued, stuck.wire.how), (0, "aborted"))
        stuck.wire.read()
        self.assertFalse(stuck.isComplete)
        world.advance(25)
        self.assertEqual(tagged.count("b", other.text), 100)
        self.assertEqual((world.ends, world.pauses), (["cl-stuck", "ok"], 0))
        world.settle()

    def test_nothingTaken(self) -> None:
        """
        K7: one that takes nothing for ten seconds while more than 64 KiB wait.
        """
        world = self.newWorld()
        client = self.ask(world, size=40, padding=8000, pace=0.0, kernelSize=4096)
        self.pass_(world, 9)
        self.assertEqual((world.ends, world.link.turnCount), ([], 0))
        self.pass_(world, 2)
        self.assertEqual((world.ends, client.wire.how), (["cl-stuck"], "aborted"))
        world.settle()

    def test_nothingTakenOfARunningAnswer(self) -> None:
        """
        K7: the same while the turn is running: it is cancelled.
        """
        world = self.newWorld()
        client = self.ask(world, size=100, padding=3000, kernelSize=4096)
        self.pass_(world, 22)
        self.assertEqual((world.ends, world.link.turnCount), ([], 1))
        self.pass_(world, 2)
        self.assertEqual((world.ends, client.wire.how), (["cl-stuck"], "aborted"))
        self.assertEqual(len(world.sent("cancel")), 1)
        world.advance(10)
        world.settle()

    def test_slowButSteady(self) -> None:
        """
        K8: a client that takes its time but goes on reading is given
        everything.
        """
        world = self.newWorld()
        client = self.ask(world, size=25, padding=8000, pace=0.0, kernelSize=4096)
        for _ in range(200):
            self.pass_(world, 0.1)
            client.wire.read(1200)
        client.wire.read()
        self.assertGreater(client.wire.pauses, 1)
        self.assertEqual(tagged.count("a", client.text), 25)
        self.assertEqual((world.ends, client.isComplete), (["ok"], True))
        world.settle()

    def test_burst(self) -> None:
        """
        K9: a megabyte at once is nothing to a client that reads.
        """
        world = LoadedWorld(self, Random(0), daemonSettings=TAGGED)
        client = self.ask(world, size=128, padding=8192, pace=0.0, kernelSize=65536)
        while not client.isComplete:
            self.assertLess(world.clock.seconds(), 30)
            world.turn(0.01)
            client.wire.read()
        self.assertGreater(client.wire.pauses, 0)
        self.assertEqual(tagged.count("a", client.text), 128)
        self.assertEqual((world.ends, world.pauses), (["ok"], 0))
        world.settle()

    def test_stuckAfterTheEnd(self) -> None:
        """
        K12: an answer that is complete but not taken is cut after ten seconds,
        and nothing is left to cancel.
        """
        world = self.newWorld()
        client = self.ask(world, size=2, padding=SLICE, pace=0.0, kernelSize=4096)
        self.pass_(world, 9)
        self.assertEqual((client.wire.how, world.link.turnCount), (None, 0))
        self.pass_(world, 2)
        self.assertEqual((client.wire.how, len(world.ends)), ("aborted", 1))
        self.assertEqual(world.sent("cancel"), [])
        client.wire.read()
        self.assertFalse(client.isComplete)
        world.settle()

    def test_sendsWhileServed(self) -> None:
        """
        C30, K10: a client that floods while it is answered is cut, its turn
        cancelled.
        """
        world = self.newWorld()
        client = self.ask(world)
        world.advance(START_UP + 0.35)
        client.wire.send(b"x" * EARLY_BYTES)
        client.wire.run()
        self.assertEqual((client.wire.how, world.ends), (None, []))
        client.wire.send(b"x")
        client.wire.run()
        self.assertEqual((client.wire.how, world.ends), ("aborted", ["cl-gone"]))
        self.assertCancels(world)
        self.assertDrains(world)


@inBothAPIs
class SilenceTests(ClientCase):
    """
    Streams on which nothing happens for long.
    """

    def signs(self, client: Client) -> int:
        """
        How many of its events were sent because of a silence.
        """
        return sum(map(self.api.isKeepAlive, client.events))

    def test_keptAlive(self) -> None:
        """
        K13: after 15 s of silence an event that says nothing, and again each
        15 s; none before the one that begins the answer, and no text that is
        not the model's.
        """
        world = self.newWorld()
        client = world.script({"say": "one "}, {"sleep": 50}, {"say": "two"}, stream=True)
        world.advance(START_UP + 14.5)
        before = len(client.events)
        self.assertEqual(self.signs(client), 0)
        world.advance(1)
        self.assertEqual((self.signs(client), len(client.events)), (1, before + 1))
        world.advance(15)
        self.assertEqual(len(client.events), before + 2)
        world.advance(30)
        self.assertEqual((client.text, client.isComplete, world.ends), ("one two", True, ["ok"]))
        world.settle()

    def test_neverBeforeTheBeginning(self) -> None:
        """
        K13: while headers are held back nothing is sent at all; when they were
        held for long enough, the answer's beginning comes first.
        """
        self.patch(constants, "HEADERS_HOLD", 20)
        world = World(self, daemonSettings={"startUp": 40.0})
        client = world.ask("hello", model="echo", stream=True)
        world.advance(19)
        self.assertEqual(client.wire.received, b"")
        world.advance(2)
        before = len(client.events)
        self.assertEqual((self.signs(client), before > 0), (0, True))
        world.advance(15)
        self.assertEqual((self.signs(client), len(client.events)), (1, before + 1))
        world.advance(10)
        self.assertEqual((client.text, client.isComplete), ("hello", True))
        world.settle()


@inBothAPIs
class ClosingTests(ClientCase):
    """
    Connections that the server wants to close.
    """

    def test_requestBehindTheLast(self) -> None:
        """
        K18: what comes after an answer that says C{Connection: close} is not
        read: no turn, no end code.
        """
        world = self.newWorld()
        client = self.ask(world, pace=0.0)
        world.advance(0.05, 0.05)
        world.front.site.stopAccepting()
        world.advance(1)
        self.assertTrue(client.isComplete)
        prompts, received = len(world.sent("prompt")), client.wire.received
        client.post({"model": "echo", "messages": [{"role": "user", "content": "late"}]})
        world.advance(1)
        self.assertEqual((client.wire.how, client.wire.received), ("closed", received))
        self.assertEqual((len(world.sent("prompt")), world.ends), (prompts, ["ok"]))
        world.settle()


@inBothAPIs
class ShutdownTests(ClientCase):
    """
    The server stops while answers are being made.
    """

    def test_liveAnswersMayEnd(self) -> None:
        """
        P2: those that are open come to their end, and their connections close;
        a new request on a kept connection is told to go elsewhere.
        """
        world = self.newWorld()
        kept = self.ask(world, "k", pace=0.0)
        world.advance(1)
        stream, whole = self.ask(world, "a"), self.ask(world, "b", stream=False)
        world.advance(START_UP + 0.35)
        # It has begun a request, so it is not closed as idle.
        kept.wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        world.front.site.stopAccepting()
        idle = world.front.site.whenIdle()
        kept.wire.received = b""
        kept.wire.send(b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        world.advance(0.25)
        self.assertEqual((kept.status, kept.error["code"]), (503, "shutting_down"))
        self.assertEqual((kept.header("connection"), kept.wire.how), ("close", "closed"))
        self.assertNoResult(idle)
        world.advance(3)
        self.successResultOf(idle)
        self.assertEqual(tagged.count("a", stream.text), 10)
        self.assertEqual(tagged.count("b", whole.message["content"]), 10)
        self.assertEqual([stream.wire.how, whole.wire.how], ["closed", "closed"])
        self.assertEqual(world.ends, ["ok", "drain", "ok", "ok"])
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def test_drainTimeIsOver(self) -> None:
        """
        P3: what is open then ends with an error that says so, and looks cut;
        the turns are cancelled in the same turn of the reactor.
        """
        world = self.newWorld()
        begun, held = self.ask(world, "a", size=100), world.ask("slow", model="silence", stream=True)
        whole = self.ask(world, "b", size=100, stream=False)
        world.advance(1)
        world.front.site.stopAccepting()
        idle = world.front.site.whenIdle()
        self.assertNoResult(idle)
        world.front.site.cut()
        self.assertCancels(world, 3)
        world.advance(0.25)
        self.successResultOf(idle)
        self.assertEqual(begun.failure and begun.failure["code"], self.api.code("shutting_down"))
        self.assertFalse(begun.looksComplete)
        self.assertGreater(tagged.count("a", begun.text), 0)
        for client in (held, whole):
            self.assertEqual((client.status, client.error["code"]), (503, "shutting_down"))
        self.assertEqual(world.ends, ["drain"] * 3)
        self.assertEqual([client.wire.how for client in (begun, held, whole)], ["closed"] * 3)

    def test_cancelsAreFlushed(self) -> None:
        """
        P3: the daemon has read each C{cancel}, once, before its connection is
        closed.
        """
        world = self.newWorld()
        self.ask(world, size=100)
        world.advance(1)
        world.front.site.stopAccepting()
        world.front.site.cut()
        world.front.stopService()
        stopped = world.link.stopService()
        world.advance(2)
        self.successResultOf(stopped)
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertEqual(world.ends, ["drain"])

    def test_whoeverWaitsIsToldToo(self) -> None:
        """
        P3: a request in line for a slot: nothing was asked, so it may be sent
        again elsewhere.
        """
        world = self.newWorld(maxTurns=1)
        first = self.ask(world, "a", size=100)
        second = self.ask(world, "b")
        world.advance(1)
        world.front.site.stopAccepting()
        world.front.site.cut()
        world.advance(0.25)
        self.assertEqual((second.status, second.error["code"]), (503, "shutting_down"))
        self.assertFalse(first.looksComplete)
        self.assertEqual(len(world.sent("prompt")), 1)
        self.assertEqual(world.front.submitter.upstreams.waiting, 0)

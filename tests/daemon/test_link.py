"""
Tests for L{openai_server.daemon.link}.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.logger import globalLogPublisher

from openai_server.daemon.endpoint import CannotConnect
from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost
from tests.daemon.world import BREATH, HID, LinkCase, call, chunk, finish, tool


class LoggingCase(LinkCase):
    """
    With all that is logged.
    """

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    @property
    def problems(self) -> list[str]:
        """
        The problems that were logged, in order.
        """
        return [event["problem"] for event in self.events if "problem" in event]


class HelloTests(LinkCase):
    """
    Who this bee says that it is.
    """

    def test_hello(self) -> None:
        """
        The first tone has every field of thrum's handshake.
        """
        self.link.startService()
        [hello] = self.daemon.heard()
        chis = hello.pop("chis")
        self.assertLessEqual(
            {"hello", "prompt", "cancel", "tool-result", "chunk", "finish", "error"}, set(chis)
        )
        self.assertEqual(
            hello,
            {
                "chi": "hello",
                "bee": ["forager"],
                "hive": "openai-server",
                "hid": HID,
                "from": HID,
                "version": "0.1",
                "protoVersion": "0.7.0",
                "propensity": {
                    "statefulness": "convention-stateful",
                    "richness": "medium",
                    "wire": "openai/chat-completions",
                },
                "tools": [],
                "provides": ["session"],
                "bind": {"host": "127.0.0.1", "port": 14620, "scheme": "http"},
                "source": "https://example.org/",
            },
        )

    def test_ridsAreFresh(self) -> None:
        """
        No rid is given twice.
        """
        self.assertNotEqual(self.link.newRid(), self.link.newRid())


class ReadinessTests(LoggingCase):
    """
    When prompts can be asked, and what is said when they cannot.
    """

    def refused(self) -> APIError:
        """
        A prompt is refused and nothing is sent.
        """
        return self.assertRaises(APIError, self.ask, "refused")

    def test_notStarted(self) -> None:
        """
        Before the start there is a reason too.
        """
        self.assertEqual(self.link.whyNotReady, "not started")
        self.assertEqual(self.refused().name, "daemon_unavailable")

    def test_socketMissing(self) -> None:
        """
        (S1) Prompts are refused at once, to be asked again in a second; the
        attempts go on from 50 ms to 1 s apart, and one line is logged.
        """
        self.fails("the socket is missing: /x")
        self.link.startService()
        refusal = self.refused()
        self.assertEqual(
            (refusal.name, refusal.retryAfter, refusal.mayRetry), ("daemon_unavailable", 1, True)
        )
        self.assertEqual(self.link.whyNotReady, "the socket is missing: /x")
        self.clock.pump([0.01] * 1000)
        attempts = self.endpoint.attempts
        gaps = [later - earlier for earlier, later in itertools.pairwise(attempts)]
        self.assertAlmostEqual(gaps[0], 0.05, 1)
        self.assertEqual([round(gap, 1) for gap in gaps[1:6]], [0.1, 0.2, 0.4, 0.8, 1.0])
        self.assertLess(gaps[-1], 1.02)
        self.assertGreater(gaps[-1], 0.9)
        self.assertEqual(self.problems, ["the socket is missing: /x"])
        # (V14) The client service has a line for each attempt, which our log leaves out.
        ours = [event for event in self.events if event["log_namespace"].startswith("openai_server")]
        self.assertEqual(len(ours), 1)

    def test_reasonsChange(self) -> None:
        """
        (S2) Each new reason is logged once and stands in C{whyNotReady}.
        """
        reasons = ["the socket is missing", "this is not a socket", "nobody listens", "no permission"]
        self.link.startService()
        self.daemon.lose()
        self.events.clear()
        for reason in reasons:
            self.fails(reason)
            self.clock.pump([0.1] * 30)
            self.assertEqual(self.link.whyNotReady, reason)
        self.assertEqual(self.problems, reasons)

    def test_unexpectedFailure(self) -> None:
        """
        (S2) A failure that no one foresaw is named by its kind, and the attempts go on.
        """
        self.endpoint.problem = ZeroDivisionError("secret")
        self.link.startService()
        self.assertEqual(self.link.whyNotReady, "cannot connect: ZeroDivisionError")
        self.endpoint.problem = None
        self.clock.advance(0.05)
        self.daemon.say(BREATH)
        self.assertIsNone(self.link.whyNotReady)

    def test_jitter(self) -> None:
        """
        (S1) The wait varies by half, and is never below 50 ms.
        """
        self.jitter = 0.0
        self.fails("away")
        self.link.startService()
        self.clock.pump([0.01] * 1000)
        gaps = [later - earlier for earlier, later in itertools.pairwise(self.endpoint.attempts)]
        self.assertGreaterEqual(min(gaps), 0.0499)
        self.assertAlmostEqual(gaps[-1], 0.5, 1)

    def test_readyWithTheBreath(self) -> None:
        """
        Not with the connection: with the daemon's first breath.
        """
        self.link.startService()
        self.refused()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["hello"])
        self.daemon.say(BREATH)
        self.assertIsNone(self.link.whyNotReady)
        self.ask()
        self.assertEqual(len(self.daemon.heardOf("prompt")), 1)

    def test_noBreath(self) -> None:
        """
        (S4) After 5 s without a breath the connection is closed and another
        made, after it is really gone: never two at once (the endpoint asserts it).
        """
        self.link.startService()
        for number in range(1, 6):
            self.clock.advance(5)
            self.assertTrue(self.daemon.transport.aborted)
            self.clock.advance(60)
            self.assertEqual(len(self.endpoint.connections), number)
            self.daemon.lose()
            self.assertEqual(self.link.whyNotReady, "no breath from the daemon within 5 s")
            self.clock.advance(1)
        self.assertEqual(self.problems, ["no breath from the daemon within 5 s"])

    def test_acceptThenClose(self) -> None:
        """
        (S5) A daemon that closes at once is tried ever more rarely, down to
        once a second; one breath makes it quick again.
        """
        self.link.startService()
        for _ in range(1000):
            if self.daemon.isOpen:
                self.daemon.lose()
            self.clock.advance(0.01)
        self.assertLess(len(self.endpoint.attempts), 20)
        self.assertGreater(self.endpoint.attempts[-1] - self.endpoint.attempts[-2], 0.9)
        while not self.daemon.isOpen:
            self.clock.advance(0.01)
        self.daemon.say(BREATH)
        self.daemon.lose()
        before = len(self.endpoint.attempts)
        self.clock.advance(0.05)
        self.assertEqual(len(self.endpoint.attempts), before + 1)

    def test_lostInTheHandshake(self) -> None:
        """
        (S6) The next attempt follows within a second, again and again.
        """
        self.link.startService()
        for _ in range(5):
            self.daemon.protocol.dataReceived(b'{"chi":"bre')
            before = len(self.endpoint.attempts)
            self.daemon.lose()
            self.clock.advance(1)
            self.assertEqual(len(self.endpoint.attempts), before + 1)
        self.daemon.say(BREATH)
        self.assertIsNone(self.link.whyNotReady)

    def test_otherVersion(self) -> None:
        """
        (S23) A daemon of another version works; that is said once for each change.
        """
        self.start()
        for version in ("0.7.0", "0.8.0", "0.8.0", None, "0.8.0"):
            self.daemon.say({**BREATH, "protoVersion": version})
        self.assertIsNone(self.link.whyNotReady)
        theirs = [event["theirs"] for event in self.events if "theirs" in event]
        self.assertEqual(theirs, ["0.8.0", "None", "0.8.0"])
        self.reconnect().say({**BREATH, "protoVersion": "0.8.0"})
        self.assertEqual(len([event for event in self.events if "theirs" in event]), 3)

    def test_slowDaemon(self) -> None:
        """
        (S15) When 8 MiB wait to be sent, prompts are refused, while cancels
        still go out; when the daemon reads again, prompts go too.
        """
        self.start()
        first = self.asked()
        producer = self.daemon.transport.producer
        assert producer is not None and first.turn is not None
        producer.pauseProducing()
        self.ask("big", content="x" * (8 << 20))
        self.daemon.heard()
        self.assertEqual(self.refused().name, "daemon_unavailable")
        self.assertEqual(self.link.whyNotReady, "the daemon does not read what it is sent")
        first.turn.cancel()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["cancel"])
        producer.resumeProducing()
        self.assertIsNone(self.link.whyNotReady)
        self.ask("s9")

    def test_noSurrogatesReachTheWire(self) -> None:
        """
        A prompt that cannot be written is a programming error that leaves
        nothing behind.
        """
        self.start()
        self.assertRaises(UnicodeEncodeError, self.ask, content="\ud83d", tools=[tool("f")])
        self.assertEqual(self.link.turnCount, 0)
        self.assertEqual(self.daemon.heard(), [])
        self.ask()
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["prompt"])


class WhenTriedTests(LinkCase):
    """
    S24: who asks while the daemon is away has it tried at once.
    """

    def away(self) -> None:
        """
        Start, and let the next attempt be a second away.
        """
        self.endpoint.problem = CannotConnect("away")
        self.link.startService()
        self.clock.pump([0.01] * 400)
        self.endpoint.attempts.clear()

    def waiting(self) -> Deferred[None]:
        """
        Wait for an attempt.
        """
        tried = self.link.whenTried()
        assert tried is not None
        return tried

    def test_daemonIsBack(self) -> None:
        """
        The attempt has ended with the daemon's breath.
        """
        self.away()
        self.endpoint.problem = None
        tried = self.waiting()
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.assertNoResult(tried)
        self.daemon.say(BREATH)
        self.successResultOf(tried)
        self.assertIsNone(self.link.whyNotReady)
        self.assertIsNone(self.link.whenTried())

    def test_stillAway(self) -> None:
        """
        The attempt has failed already, and the next ones come as ever.
        """
        self.away()
        self.assertIsNone(self.link.whenTried())
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.clock.pump([0.01] * 101)
        self.assertEqual(len(self.endpoint.attempts), 2)

    def test_attemptUnderWay(self) -> None:
        """
        All wait for that one, a second at most.
        """
        self.away()
        self.endpoint.problem = None
        first, second = self.waiting(), self.waiting()
        self.clock.advance(0.5)
        third = self.waiting()
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.clock.advance(0.5)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertNoResult(third)
        self.daemon.lose()
        self.successResultOf(third)

    def test_connectionThatTakesItsTime(self) -> None:
        """
        Is waited for in the same way.
        """
        self.away()
        self.endpoint.problem, self.endpoint.isSlow = None, True
        tried = self.waiting()
        self.clock.advance(1)
        self.successResultOf(tried)

    def test_gaveUp(self) -> None:
        """
        Whoever no longer waits leaves no timer behind.
        """
        self.away()
        self.endpoint.problem = None
        tried = self.waiting()
        before = len(self.clock.getDelayedCalls())
        tried.cancel()
        self.failureResultOf(tried, CancelledError)
        self.assertEqual(len(self.clock.getDelayedCalls()), before - 1)

    def test_stopped(self) -> None:
        """
        A link that stops tells them, and tries nothing afterwards.
        """
        self.assertIsNone(self.link.whenTried())
        self.away()
        self.endpoint.problem = None
        tried = self.waiting()
        stopped = self.link.stopService()
        self.successResultOf(tried)
        self.assertIsNone(self.link.whenTried())
        self.daemon.lose()
        self.successResultOf(stopped)

    def test_askedAtTheMomentOfTheLoss(self) -> None:
        """
        The next attempt is the usual one.
        """
        self.start()
        heard = self.asked()
        tried: list[Deferred[None] | None] = []
        heard.turnEnded = lambda end: tried.append(self.link.whenTried())  # type: ignore[method-assign]
        self.daemon.lose()
        (waiting,) = tried
        assert waiting is not None
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.clock.advance(0.05)
        self.assertEqual(len(self.endpoint.attempts), 2)


class LossTests(LinkCase):
    """
    The connection goes and comes back.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_liveTurnsAreLost(self) -> None:
        """
        (S7) (U18) Asked, running, settling and draining turns are over at the
        loss; a parked one is not.
        """
        asked, running, settling, draining, parked = (self.asked(f"s{n}") for n in range(5))
        for number in range(1, 5):
            self.daemon.say(chunk(f"s{number}", "x"))
        for heard, step in ((settling, "settle"), (draining, "cancel"), (parked, "park")):
            getattr(heard.turn, step)()
        self.daemon.lose()
        self.assertEqual(asked.end, Lost(Loss.DAEMON_LOST, False))
        self.assertEqual(running.end, Lost(Loss.DAEMON_LOST, True))
        self.assertEqual(settling.end, Lost(Loss.DAEMON_LOST, True))
        self.assertIsNone(draining.end)
        assert draining.turn is not None
        self.assertEqual(draining.over, Lost(Loss.DAEMON_LOST, True))
        self.assertIsNone(parked.end)
        self.assertIsNotNone(self.link.whyNotReady)

    def test_thousandTurnsAreLostAtOnce(self) -> None:
        """
        (S7) All of them within the same turn of the reactor.
        """
        heard = [self.ask(f"s{number}") for number in range(1000)]
        self.daemon.lose()
        self.assertEqual({each.end for each in heard}, {Lost(Loss.DAEMON_LOST, False)})
        self.assertEqual(self.link.turnCount, 0)

    def test_reconnected(self) -> None:
        """
        (S8) The new connection begins with hello, nothing is asked again, and
        the next prompt works.
        """
        self.asked()
        daemon = self.reconnect()
        self.assertEqual([tone["chi"] for tone in daemon.heard()], ["hello"])
        daemon.say(BREATH)
        self.assertIsNone(self.link.whyNotReady)
        heard = self.asked("s2")
        daemon.say(chunk("s2", "x"), finish("s2"))
        self.assertEqual(heard.text, "x")

    def test_halfToneOfTheOldConnection(self) -> None:
        """
        (S9) Half a line before the loss and half a line after it make no tone.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        heard.turn.park()
        self.daemon.protocol.dataReceived(b'{"chi":"chunk","sid":"s1","delta":"')
        daemon = self.reconnect()
        daemon.say(BREATH)
        daemon.protocol.dataReceived(b'x"}\n')
        self.assertEqual(heard.text, "")

    def test_parkedTurnGoesOnAtTheSameDaemon(self) -> None:
        """
        (X23) (S8) Attached right behind the hello, whose tools are there from
        the start; then the result goes out and the text comes.
        """
        heard = self.asked(tools=[tool("f")])
        turn = heard.turn
        assert turn is not None
        self.daemon.say(call("s1", "c1"))
        turn.park()
        daemon = self.reconnect()
        [hello, attach] = daemon.heard()
        self.assertEqual([each["name"] for each in hello["tools"]], ["f"])
        self.assertEqual((attach["chi"], attach["sid"]), ("attach", "s1"))
        daemon.say(BREATH)
        turn.answer("c1", "f", "r", False)
        turn.resume()
        daemon.say(chunk("s1", "on"), finish("s1"))
        self.assertEqual(heard.text, "on")
        self.assertEqual(heard.told[0], "echoed")

    def test_parkedTurnIsLostAtAnotherDaemon(self) -> None:
        """
        (X23) (U19) Another process knows nothing of it: no attach, no names.
        """
        self.parkedThen(4712)

    def test_parkedTurnIsLostAtAnUnknownDaemon(self) -> None:
        """
        (X23) When it cannot be known, it is another one; also twice.
        """
        self.parkedThen(None)
        self.clock.advance(1)
        self.daemon.say(BREATH)
        self.parkedThen(None, "s2")

    def parkedThen(self, process: object, sid: str = "s1") -> None:
        """
        Park a turn, and come back to this process.
        """
        heard = self.asked(sid, tools=[tool("f")])
        assert heard.turn is not None
        self.daemon.say(call(sid, "c1"))
        heard.turn.park()
        self.daemonProcess = process
        self.daemon.lose()
        self.assertIsNone(heard.end)
        self.clock.advance(1)
        [hello] = self.daemon.heard()
        self.assertEqual(hello["tools"], [])
        self.assertEqual(heard.end, Lost(Loss.DAEMON_LOST, True))

    def test_parkedTurnGivenUpWhileAway(self) -> None:
        """
        Cancelled or settled without a connection, a parked turn is over: it
        cannot be watched, and is not attached later.
        """
        cancelled, settled = self.asked("s1"), self.asked("s2")
        assert cancelled.turn is not None and settled.turn is not None
        self.daemon.say(call("s1", "c1"), call("s2", "c1"))
        cancelled.turn.park()
        settled.turn.park()
        self.daemon.lose()
        cancelled.turn.cancel()
        settled.turn.settle()
        self.assertTrue(cancelled.turn.isOver)
        self.assertIsNone(cancelled.end)
        self.assertEqual(settled.end, Lost(Loss.DAEMON_LOST, True))
        self.clock.advance(1)
        self.assertEqual([tone["chi"] for tone in self.daemon.heard()], ["hello"])

    def test_parkedTurnResumedWhileAway(self) -> None:
        """
        (X23) Resumed without a connection, a turn is lost.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        heard.turn.park()
        self.daemon.lose()
        heard.turn.resume()
        self.assertEqual(heard.end, Lost(Loss.DAEMON_LOST, True))

    def test_parkedTurnTooOldWhileAway(self) -> None:
        """
        (U4) The limit of the whole turn holds without a connection too; there
        is nothing to drain then.
        """
        heard = self.asked()
        assert heard.turn is not None
        self.daemon.say(call("s1", "c1"))
        heard.turn.park()
        self.fails("away")
        self.daemon.lose()
        self.clock.pump([60.0] * 61)
        self.assertEqual(heard.end, Lost(Loss.TOO_LONG, True))
        self.assertTrue(heard.turn.isOver)

    def test_deadHeartbeatMakesANewConnection(self) -> None:
        """
        (S19) 25 s of silence, and the connection is made anew.
        """
        self.clock.advance(15)
        self.clock.advance(10)
        self.assertTrue(self.daemon.transport.aborted)
        daemon = self.reconnect()
        self.assertEqual([tone["chi"] for tone in daemon.heard()], ["hello"])
        self.assertIsNot(daemon, self.endpoint.connections[0])


class DescriptorTests(LinkCase):
    """
    (S22) One descriptor is kept for the daemon.
    """

    def descriptors(self) -> int:
        """
        How many are open in this process.
        """
        return len(os.listdir("/proc/self/fd"))

    def test_spareWhileThereIsNoConnection(self) -> None:
        """
        (S22) Held while there is no connection, given up for each attempt and
        for the connection, and taken again when that is lost.
        """
        before = self.descriptors()
        during: list[int] = []
        connect = self.endpoint.connect

        def connecting(factory: IProtocolFactory) -> Deferred[IProtocol]:
            during.append(self.descriptors() - before)
            return connect(factory)

        self.endpoint.connect = connecting  # type: ignore[method-assign]
        self.fails("no file descriptor is left")
        self.link.startService()
        self.assertEqual(self.descriptors() - before, 1)
        self.endpoint.problem = None
        self.clock.advance(0.05)
        self.daemon.say(BREATH)
        self.assertEqual((during, self.descriptors() - before), ([0, 0], 0))
        self.daemon.lose()
        self.assertEqual(self.descriptors() - before, 1)
        self.successResultOf(self.link.stopService())
        self.assertEqual(self.descriptors(), before)


class StopTests(LinkCase):
    """
    The end of the service.
    """

    def test_liveTurnsAreCancelled(self) -> None:
        """
        (P3) Cancel for each live and parked turn is written before the close;
        their audiences are told; nothing for draining ones.
        """
        self.start()
        live, parked, draining = (self.asked(f"s{n}") for n in range(3))
        assert parked.turn is not None and draining.turn is not None
        parked.turn.park()
        draining.turn.cancel()
        self.daemon.heard()
        stopped = self.link.stopService()
        self.assertEqual(
            [(tone["chi"], tone["sid"]) for tone in self.daemon.heard()], [("cancel", "s0"), ("cancel", "s1")]
        )
        self.assertTrue(self.daemon.transport.disconnecting)
        self.assertIsInstance(live.end, Lost)
        self.assertIsInstance(parked.end, Lost)
        self.assertNoResult(stopped)
        self.daemon.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.link.whyNotReady, "stopped")

    def test_daemonThatDoesNotReadIsLeftAfterASecond(self) -> None:
        """
        (P3) The stop has a bound.
        """
        self.start()
        self.link.stopService()
        self.clock.advance(0.9)
        self.assertFalse(self.daemon.transport.aborted)
        self.clock.advance(0.1)
        self.assertTrue(self.daemon.transport.aborted)
        self.daemon.lose()

    def test_stoppedInEveryState(self) -> None:
        """
        (P5) Before the start, while waiting for the next attempt, in the
        handshake, and after the loss: no timer stays.
        """
        self.successResultOf(self.link.stopService())
        self.fails("away")
        self.link.startService()
        self.successResultOf(self.link.stopService())
        self.endpoint.problem = None
        self.link.startService()
        stopped = self.link.stopService()
        self.daemon.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stoppedWhileConnecting(self) -> None:
        """
        (P5) An attempt that is under way is given up, and that is no problem to report.
        """
        self.endpoint.isSlow = True
        self.link.startService()
        self.successResultOf(self.link.stopService())
        self.assertEqual(self.link.whyNotReady, "stopped")

    def test_startedAgain(self) -> None:
        """
        A stopped link can be started again.
        """
        self.start()
        stopped = self.link.stopService()
        self.daemon.lose()
        self.successResultOf(stopped)
        self.start()
        self.assertIsNone(self.link.whyNotReady)

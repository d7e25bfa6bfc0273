"""
Parked turns that one process leaves to the next.
"""

from __future__ import annotations

from openai_server.daemon.waitlimits import WaitLimits
from openai_server.wire.tones import ToolCall
from tests.daemon.world import BREATH, LinkCase, Listening, call, chunk, finish, tool


class AdoptionTests(LinkCase):
    """
    What an earlier process asked, gone on with.
    """

    def adopted(self, sid: str = "s1") -> Listening:
        """
        A turn that waits for the result of one call.
        """
        listening = Listening()
        waiting = ToolCall(sid=sid, callId="c1", toolName="f")
        listening.turn = self.link.adopt(sid, "m", [waiting], [tool("f")], listening)
        return listening

    def test_attachedAndNamed(self) -> None:
        """
        It is attached at once, one hello names the tools of all, and the result
        goes out as for any other.
        """
        daemon = self.start()
        one, other = self.adopted(), self.adopted("s2")
        self.clock.advance(0)
        self.assertEqual([tone["sid"] for tone in daemon.heardOf("attach")], ["s1", "s2"])
        self.clock.advance(5)
        assert one.turn is not None and other.turn is not None
        one.turn.answer("c1", "f", "r", False)
        one.turn.answer("c1", "f", "r", False)
        one.turn.resume()
        [result] = daemon.heardOf("tool-result")
        self.assertEqual((result["sid"], result["callId"], result["output"]), ("s1", "c1", "r"))
        daemon.say(chunk("s1", "on"), call("s1", "c2"), finish("s1"), finish("s2"))
        self.assertEqual((one.text, one.over is not None, other.over is not None), ("on", True, True))

    def test_oneHello(self) -> None:
        """
        However many there are, in one write with what attaches them all.
        """
        daemon = self.start()
        turns = [self.adopted(f"s{number}") for number in range(20)]
        daemon.heard()
        self.clock.advance(0)
        self.assertEqual(len(daemon.transport.writes), 1)
        [*attaches, hello] = daemon.heard()
        self.assertEqual([each["sid"] for each in attaches], [f"s{number}" for number in range(20)])
        self.assertEqual([each["name"] for each in hello["tools"]], ["f"])
        daemon.say(*[finish(f"s{number}") for number in range(20)])
        self.assertTrue(all(each.over for each in turns))

    def test_resultAtOnce(self) -> None:
        """
        It goes out behind what attaches the turn and names its tools. One that
        is over by then is not attached.
        """
        daemon = self.start()
        one, _, gone = (self.adopted(sid) for sid in ("s1", "s2", "s3"))
        assert one.turn is not None and gone.turn is not None
        gone.turn.letGo()
        daemon.heard()
        one.turn.answer("c1", "f", "r", False)
        self.clock.advance(0)
        tones = [(tone["chi"], tone.get("sid")) for tone in daemon.heard()]
        self.assertEqual(
            tones, [("attach", "s1"), ("attach", "s2"), ("hello", None), ("tool-result", "s1")]
        )
        daemon.say(finish("s1"), finish("s2"))

    def test_nobodyLooks(self) -> None:
        """
        While they wait there is nothing to look at: a look at each of
        thousands would hold up everything.
        """
        daemon = self.start()
        self.adopted()
        self.clock.advance(0)
        left = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
        self.assertIn(WaitLimits().turn, left)
        self.assertNotIn(WaitLimits().echo, left)
        daemon.say(finish("s1"))

    def test_silenceIsExpected(self) -> None:
        """
        No deadline but its audience's ends it, for as long as a turn may last.
        """
        daemon = self.start()
        heard = self.adopted()
        self.clock.advance(30)
        self.assertEqual(heard.told, [])
        daemon.say(finish("s1"))

    def test_beforeTheDaemonIsReached(self) -> None:
        """
        The connection begins with its names, and attaches it, if it is the
        daemon that has it.
        """
        self.link.incarnation = self.daemonProcess
        heard = self.adopted()
        self.link.startService()
        [hello, attach] = self.daemon.heard()
        self.assertEqual([each["name"] for each in hello["tools"]], ["f"])
        self.assertEqual((attach["chi"], attach["sid"]), ("attach", "s1"))
        self.daemon.say(BREATH, finish("s1"))
        self.assertIsNotNone(heard.over)

    def test_twice(self) -> None:
        """
        A sid has one turn.
        """
        self.start()
        self.adopted()
        self.assertRaises(ValueError, self.adopted)

    def test_left(self) -> None:
        """
        A turn that is let go of is neither cancelled nor answered, and nobody
        is told of it.
        """
        daemon = self.start()
        heard = self.asked(tools=[tool("f")])
        daemon.say(call("s1", "c1"))
        assert heard.turn is not None
        before = list(heard.told)
        heard.turn.letGo()
        self.assertNotEqual(before, [])
        heard.turn.park()
        self.assertFalse(heard.turn.isOver)
        heard.turn.letGo()
        self.assertTrue(heard.turn.isOver)
        daemon.say(chunk("s1", "late"), finish("s1"))
        self.assertEqual((heard.told, heard.over), (before, None))
        stopped = self.link.stopService()
        self.assertEqual([tone["chi"] for tone in daemon.heard() if tone["chi"] != "prompt"], [])
        daemon.lose()
        self.successResultOf(stopped)


class BesideOthersTests(LinkCase):
    """
    Several processes at one daemon, which have each other's turns.
    """

    def adopted(self, sid: str = "s1") -> Listening:
        """
        A turn that another process has asked, and that waits for two results.
        """
        listening = Listening()
        waiting = [ToolCall(sid=sid, callId=callId, toolName="f") for callId in ("c1", "c2")]
        listening.turn = self.link.adopt(sid, "m", waiting, [tool("f")], listening)
        return listening

    def test_namesBeforeResults(self) -> None:
        """
        A model that is given a result may call at once: the names are this
        bee's before that, also when others are just to be withdrawn.
        """
        daemon = self.start()
        earlier = self.asked("s0", tools=[tool("g")])
        daemon.say(finish("s0"))
        self.assertIsNotNone(earlier.over)
        daemon.heard()
        heard = self.adopted()
        assert heard.turn is not None
        heard.turn.answer("c1", "f", "r", False)
        heard.turn.answer("c2", "f", "r", False)
        sent = daemon.heard()
        self.assertEqual([tone["chi"] for tone in sent], ["attach", "hello", "tool-result", "tool-result"])
        self.assertEqual([each["name"] for each in sent[1]["tools"]], ["f"])
        heard.turn.resume()
        self.clock.advance(5)
        self.assertEqual(daemon.heardOf("hello"), [])
        daemon.say(finish("s1"))

    def test_strayCalls(self) -> None:
        """
        A call of no turn here goes to whoever hands such calls on; without
        anybody it is refused, and so it is when nobody wants it, once.
        """
        daemon = self.start()
        strays: list[ToolCall] = []
        self.link.onStray(strays.append)
        daemon.say(call("other", "c9"), call("other", "c8", sigil="x"))
        [stray] = strays
        self.assertEqual((stray.sid, stray.callId, daemon.heard()), ("other", "c9", []))
        for _ in range(2):
            self.link.refuse(stray)
        daemon.say(call("other", "c9"))
        [refused] = daemon.heardOf("tool-result")
        self.assertEqual((refused["callId"], refused["isError"], len(strays)), ("c9", True, 1))
        self.link.onStray(None)
        daemon.say(call("other", "c7"))
        self.assertEqual(len(daemon.heardOf("tool-result")), 1)

    def test_given(self) -> None:
        """
        A call that another process was given is shown to its turn, once.
        """
        daemon = self.start()
        self.assertFalse(self.link.isLive("s1"))
        heard = self.adopted()
        self.assertTrue(self.link.isLive("s1"))
        for _ in range(2):
            self.link.give(ToolCall(sid="s1", callId="c3", toolName="f"))
        self.assertEqual([tone.callId for batch in heard.batches for tone in batch], ["c3"])
        assert heard.turn is not None
        heard.turn.cancel()
        self.assertFalse(self.link.isLive("s1"))
        daemon.say(finish("s1"))

    def test_endOfAParkedTurn(self) -> None:
        """
        Where another process may have answered its calls, nothing more is
        said of them; where there is none they are refused.
        """
        daemon = self.start()
        for hasOthers in (True, False):
            self.link.onStray((lambda _: None) if hasOthers else None)
            heard = self.adopted()
            daemon.heard()
            daemon.say(finish("s1"))
            self.assertIsNotNone(heard.over)
            self.assertEqual(len(daemon.heardOf("tool-result")), 0 if hasOthers else 2)


class ReachedTests(LinkCase):
    """
    Which daemon it is, when there is one.
    """

    def test_later(self) -> None:
        """
        Whoever waits is told with the first breath, before anybody asks.
        """
        reached = self.link.whenReached()
        given = self.link.whenReached()
        given.addErrback(lambda _: None)
        given.cancel()
        self.link.startService()
        self.assertNoResult(reached)
        self.daemon.say(BREATH)
        self.assertEqual(self.successResultOf(reached), self.daemonProcess)

    def test_now(self) -> None:
        """
        At once, when it is reached.
        """
        self.start()
        self.assertEqual(self.successResultOf(self.link.whenReached()), self.daemonProcess)

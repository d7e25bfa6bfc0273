"""
Tests of a client's connection: framing, the queue that loses tones, faults.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.embedded import connection
from openai_server.embedded.connection import QUEUE_LENGTH
from tests.embedded.bees import Bee
from tests.embedded.worlds import World
from tests.support import SyncCase


class FramingTests(SyncCase):
    """
    Bytes into lines.
    """

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.integers(1, 20), max_size=30))
    def test_linesCutAnywhereAreTheSameLines(self, sizes: list[int]) -> None:
        """
        It does not matter how the bytes of lines come in.
        """
        world = World(self)
        bee = Bee(world.daemon)
        seen: list[bytes] = []
        world.daemon.lineObserver = seen.append
        data = b'{"chi":"perf-mark","rid":"a-0"}\n\n{"chi":"perf-mark","rid":"a-1"}\r\nrest\n'
        for size in sizes:
            bee.sendBytes(data[:size])
            data = data[size:]
        bee.sendBytes(data)
        self.assertEqual([echo["rid"] for echo in bee.chis("echo")], ["a-0", "a-1"])
        self.assertEqual(seen[0], b'{"chi":"perf-mark","rid":"a-0"}')
        self.assertEqual(len(seen), 4)

    def test_notUTF8ClosesTheConnection(self) -> None:
        """
        Lines after it are not read.
        """
        bee = World(self).bee()
        bee.sendBytes(b'{"chi":"log","x":"\xff"}\n{"chi":"perf-mark","rid":"a-0"}\n')
        self.assertTrue(bee.isLost)
        self.assertEqual(bee.chis("echo"), [])

    def test_endlessLineClosesTheConnection(self) -> None:
        """
        There is a bound to what is kept of a line.
        """
        self.patch(connection, "MAX_LINE", 1000)
        bee = World(self).bee()
        bee.sendBytes(b"x" * 1000)
        self.assertFalse(bee.isLost)
        bee.sendBytes(b"x")
        self.assertTrue(bee.isLost)


class QueueTests(SyncCase):
    """
    A client that does not read.
    """

    def test_tonesBeyondTheQueueAreLost(self) -> None:
        """
        1024 tones wait; what comes then is lost, the finish too, and the
        worker goes on all the same.
        """
        world = World(self)
        bee = world.bee()
        bee.prompt("s1", [{"flood": 5000}])
        bee.client.pauseProducing()
        world.clock.advance(0.5)
        self.assertEqual(bee.chis("session-ready"), [])
        self.assertTrue(world.daemon.isIdle)
        bee.client.resumeProducing()
        self.assertEqual(bee.text("s1"), "".join(f"{n:06d} " for n in range(QUEUE_LENGTH - 2)))
        self.assertEqual(bee.chis("finish"), [])
        self.assertEqual(bee.client.lostTones, 5000 + 4 - QUEUE_LENGTH)

    def test_afterTheQueueTonesGoOutAtOnce(self) -> None:
        """
        A client that reads again gets what comes next.
        """
        bee = World(self).bee()
        bee.client.pauseProducing()
        bee.send(chi="perf-mark", rid="a-0")
        bee.client.resumeProducing()
        bee.send(chi="perf-mark", rid="a-1")
        self.assertEqual([echo["rid"] for echo in bee.chis("echo")], ["a-0", "a-1"])

    def test_closingEndsTheQueue(self) -> None:
        """
        A lost client is sent nothing more.
        """
        world = World(self)
        bee = world.ask([{"sleep": 1}, {"say": "x"}])
        bee.client.stopProducing()
        bee.close()
        world.clock.advance(1)
        self.assertEqual(bee.text("s1"), "")
        self.assertEqual(world.daemon.clients, [])


class FaultTests(SyncCase):
    """
    What tests can put in the way.
    """

    def test_piecesOfAnySize(self) -> None:
        """
        Output is cut at these sizes, a piece a turn of the reactor, in order.
        """
        world = World(self)
        world.daemon.faults.pieces = [1, 2, 30]
        bee = Bee(world.daemon)
        bee.send(chi="perf-mark", rid="a-0")
        grown = []
        while world.clock.getDelayedCalls():
            world.clock.calls[0].func(*world.clock.calls.pop(0).args)
            grown.append(len(bee.wire.value()))
        self.assertEqual(grown[:3], [1, 3, 33])
        bee.send(chi="perf-mark", rid="a-1")
        self.assertEqual([tone["chi"] for tone in bee.tones], ["breath", "echo", "echo"])

    def test_chosenTonesAreLost(self) -> None:
        """
        A predicate over lines says which.
        """
        world = World(self)
        world.daemon.faults.dropTone = lambda line: b'"finish"' in line
        bee = world.ask("hello")
        self.assertEqual((bee.text("s1"), bee.chis("finish")), ("hello", []))

    def test_linesAreRewritten(self) -> None:
        """
        What goes out is what the function gives, be it half a line.
        """
        world = World(self)
        world.daemon.faults.rewrite = lambda line: [line[:-1], b" \n"] if b'"delta"' in line else [line]
        bee = world.ask("hello")
        self.assertEqual(bee.text("s1"), "hello")
        self.assertEqual(bee.lines[-3][-2:], b"} ")

    def test_muteEchoesAndBreath(self) -> None:
        """
        Nothing of either is sent.
        """
        world = World(self)
        world.daemon.faults.muteEchoes = True
        world.daemon.faults.muteBreath = True
        bee = world.ask("hello", rid="a-0")
        self.assertEqual(bee.chis("echo", "breath"), [])
        self.assertEqual(bee.text("s1"), "hello")

    def test_closeOnConnect(self) -> None:
        """
        The connection is closed before a breath.
        """
        world = World(self)
        world.daemon.faults.closeOnConnect = True
        bee = Bee(world.daemon)
        self.assertTrue(bee.isLost)
        self.assertEqual((bee.lines, world.daemon.clients), ([], []))

    def test_anotherVersion(self) -> None:
        """
        The breath can say another version.
        """
        world = World(self)
        world.daemon.faults.protoVersion = "0.8.0"
        self.assertEqual(world.bee().chis("breath")[0]["protoVersion"], "0.8.0")

    def test_aPromptIsLost(self) -> None:
        """
        It is echoed and never heard of again.
        """
        world = World(self)
        world.daemon.faults.losesPrompt = lambda tone: tone["sid"] == "s1"
        bee = world.ask("hello", rid="a-0")
        self.assertEqual(len(bee.chis("echo")), 2)
        self.assertEqual(bee.chis("session-ready"), [])

    def test_disconnect(self) -> None:
        """
        One connection is cut, with what it had not been sent.
        """
        world = World(self)
        bee, other = world.bee(), world.bee("b")
        bee.client.pauseProducing()
        bee.send(chi="perf-mark", rid="a-0")
        bee.client.disconnect()
        self.assertEqual((bee.isLost, other.isLost, bee.chis("echo")), (True, False, []))
        self.assertEqual(world.daemon.clients, [other.client])

    def test_stopReading(self) -> None:
        """
        The transport is told not to read, and to read again.
        """
        bee = World(self).bee()
        bee.client.stopReading()
        self.assertEqual(bee.wire.producerState, "paused")
        bee.client.goOnReading()
        self.assertEqual(bee.wire.producerState, "producing")

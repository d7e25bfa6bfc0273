"""
What the flow of a request says of itself when the server has no more time.
"""

from __future__ import annotations

from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, function
from tests.world import World


@inBothAPIs
class DrainTests(FlowCase):
    """
    The drain time is over.
    """

    def test_waitingInLine(self) -> None:
        """
        P3: of two requests, the one whose prompt has left must not be asked
        again, the one that waits for a slot may be; the daemon never hears of
        the latter.
        """
        world = World(self, maxTurns=1)
        running = world.script({"sleep": 5}, {"say": "late"})
        waiting = world.script({"say": "never"})
        world.advance(1)
        self.assertEqual((len(world.sent("prompt")), world.front.submitter.upstreams.waiting), (1, 1))
        world.front.site.stopAccepting()
        world.front.site.cut()
        world.advance(0)
        for client, mayRetry, retryAfter in ((running, "false", None), (waiting, None, "1")):
            self.assertRefused(client, 503, "shutting_down")
            self.assertEqual(client.header("x-should-retry"), mayRetry)
            self.assertEqual(client.header("retry-after"), retryAfter)
        self.assertEqual((len(world.sent("prompt")), len(world.sent("cancel"))), (1, 1))
        self.assertEqual(world.ends, ["drain", "drain"])
        world.advance(40)
        world.settle()

    def test_waitingIsTurnedAwayFirst(self) -> None:
        """
        A request that waits, for a slot or at the gate behind a start of other
        tools, is turned away when the drain begins: the end of what runs must
        start nothing.
        """
        for settings in ({"maxTurns": 1}, {}):
            world = World(self, daemonSettings={"startUp": 5.0}, **settings)
            running = world.script({"say": "said"}, tools=[function("one")])
            waiting = world.script({"say": "never"}, tools=[function("two")])
            world.advance(1)
            self.assertEqual((len(world.sent("prompt")), world.front.submitter.upstreams.waiting), (1, 1))
            world.front.site.stopAccepting()
            world.advance(0)
            self.assertRefused(waiting, 503, "shutting_down")
            self.assertEqual((waiting.header("retry-after"), running.status), ("1", None))
            world.front.site.cut()
            world.advance(1)
            self.assertEqual(len(world.sent("prompt")), 1)
            world.advance(40)
            world.settle()

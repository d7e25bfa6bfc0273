"""
What the flow of a request says of itself when the server has no more time.
"""

from __future__ import annotations

from tests.flow.support import FlowCase
from tests.world import World


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
        self.assertEqual((len(world.sent("prompt")), world.front.submitter.slots.waiting), (1, 1))
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

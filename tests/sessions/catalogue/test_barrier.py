"""
Who waits for a worker's list of tools, and what the rest sees of it.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from openai_server.errors import APIError
from openai_server.sessions.catalogue import Catalogue
from openai_server.sessions.catalogue.toollist import SILENCE
from openai_server.sessions.catalogue.wirenames import PromptTools
from openai_server.sessions.contexts import ToolSet
from openai_server.sessions.waiting import Waiter
from tests.sessions.catalogue.test_toollist import ONE, OTHER, toolSet
from tests.support import SyncCase, TestClock


class BarrierTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.catalogue = Catalogue(self.clock, patience=100)
        self.begun: list[str] = []
        self.gone: list[bool] = []
        self.barrier = self.catalogue.barrier(self.begin)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def begin(self, request: Waiter[None, PromptTools | None]) -> None:
        """
        Start the turn of a request.
        """
        self.barrier.started(request.account, request.wanted)
        self.begun.append(request.account)
        request.give(None)

    def left(self, request: Waiter[None, PromptTools | None]) -> None:
        """
        Note whether a request that waits no longer stood at the barrier.
        """
        self.gone.append(self.barrier.leave(request))
        self.barrier.move()

    def wait(self, name: str, tools: PromptTools | None) -> Waiter[None, PromptTools | None]:
        """
        Let a request come to the barrier.
        """
        request: Waiter[None, PromptTools | None] = Waiter(name, tools, self.left)
        self.barrier.wait(request)
        return request

    def test_inOrder(self) -> None:
        """
        Nobody overtakes, though the list would allow it.
        """
        for name, tools in (("a", ONE), ("b", OTHER), ("c", ONE), ("d", None)):
            self.wait(name, tools)
        self.assertEqual(self.begun, ["a"])
        self.assertFalse(self.barrier.isOpenFor(ONE))
        self.barrier.showedLife("a")
        self.assertEqual(self.begun, ["a", "b"])
        self.barrier.gone("b")
        self.barrier.move()
        self.assertEqual(self.begun, ["a", "b", "c", "d"])
        self.assertTrue(self.barrier.isOpenFor(ONE))
        self.catalogue.stop()

    def test_silence(self) -> None:
        """
        The barrier opens by itself when the turn that it waits for shows
        nothing.
        """
        self.wait("a", ONE)
        self.wait("b", OTHER)
        self.clock.advance(SILENCE)
        self.assertEqual(self.begun, ["a", "b"])
        self.catalogue.stop()

    def test_leaving(self) -> None:
        """
        Who leaves lets the next one through, can leave once, and is not begun.
        """
        self.wait("a", ONE)
        request, last = self.wait("b", OTHER), self.wait("c", ONE)
        request.deferred.cancel()
        self.failureResultOf(request.deferred, CancelledError)
        self.left(request)
        self.assertEqual((self.gone, self.begun), ([True, False], ["a", "c"]))
        self.successResultOf(last.deferred)
        self.catalogue.stop()

    def test_tooLong(self) -> None:
        """
        There is an end to the wait.
        """
        self.wait("a", ONE)
        requests = [self.wait(name, toolSet(name)) for name in "bcdefgh"]
        for _ in range(20):
            self.clock.advance(5)
        self.assertEqual(self.failureResultOf(requests[-1].deferred, APIError).value.name, "line_full")
        self.assertEqual("".join(self.begun), "abcdefg")

    def test_namesThatCannotBeHidden(self) -> None:
        """
        There is no room for them.
        """
        tools = ToolSet(frozenset({"x" * 50}), b"")
        self.catalogue.check(tools, "tools")
        crowded = Catalogue(self.clock, 50)
        error = self.assertRaises(APIError, crowded.check, tools, "tools")
        self.assertEqual((error.kind.status, error.param), (400, "tools"))

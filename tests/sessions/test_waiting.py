"""
Waiting in line.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from openai_server.clock import Timeouts
from openai_server.errors import APIError
from openai_server.sessions.waiting import FairLine, Waiter
from tests.support import SyncCase, TestClock


def late() -> APIError:
    """
    The failure of somebody who waited too long.
    """
    return APIError("line_full", "late")


class WaiterTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.five = Timeouts(self.clock, 5)
        self.left: list[object] = []
        self.waiter: Waiter[str, int] = Waiter("a", 7, self.left.append)

    def test_given(self) -> None:
        """
        What is given ends the wait and its timer, and nobody has left.
        """
        self.waiter.limit(self.five, late)
        self.assertTrue(self.waiter.give("it"))
        self.assertEqual(self.successResultOf(self.waiter.deferred), "it")
        self.assertEqual((self.left, len(self.five)), ([], 0))

    def test_late(self) -> None:
        """
        When the time is up, the waiter leaves and fails.
        """
        self.waiter.limit(self.five, late)
        self.clock.advance(4.9)
        self.assertNoResult(self.waiter.deferred)
        self.clock.advance(0.1)
        self.assertEqual(self.failureResultOf(self.waiter.deferred, APIError).value.message, "late")
        self.assertEqual(self.left, [self.waiter])

    def test_secondLimitReplacesTheFirst(self) -> None:
        """
        A new limit counts from its own moment.
        """
        self.waiter.limit(self.five, late)
        self.clock.advance(4)
        self.waiter.limit(self.five, late)
        self.clock.advance(4)
        self.assertNoResult(self.waiter.deferred)
        self.clock.advance(1)
        self.failureResultOf(self.waiter.deferred, APIError)

    def test_cancelled(self) -> None:
        """
        Who cancels leaves, without a timer, and can be given nothing.
        """
        self.waiter.limit(self.five, late)
        self.waiter.deferred.cancel()
        self.failureResultOf(self.waiter.deferred, CancelledError)
        self.assertEqual((self.left, len(self.five)), ([self.waiter], 0))
        self.assertFalse(self.waiter.give("it"))

    def test_turnedAway(self) -> None:
        """
        Who is turned away leaves and fails, by a mistake too; who has given up
        meanwhile is left alone.
        """
        self.waiter.turnAway(Failure(ZeroDivisionError()))
        self.failureResultOf(self.waiter.deferred, ZeroDivisionError)
        self.assertEqual(self.left, [self.waiter])
        self.waiter.turnAway(late())


class FairLineTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.line: FairLine[Waiter[None, str]] = FairLine()

    def join(self, *names: str) -> list[Waiter[None, str]]:
        """
        Let these stand in line: the account is a name's first letter.
        """
        made: list[Waiter[None, str]] = [
            Waiter(name[0], name, lambda waiter: None) for name in names
        ]
        for waiter in made:
            self.line.join(waiter)
        return made

    def order(self) -> list[str]:
        """
        Take everybody out.
        """
        found = []
        while (waiter := self.line.next()) is not None:
            found.append(waiter.wanted)
        return found

    def test_accountsTakeTurns(self) -> None:
        """
        One account with many does not keep the others waiting; within an
        account the first is first.
        """
        self.join("a1", "a2", "a3", "b1", "c1", "b2")
        self.assertEqual(self.order(), ["a1", "b1", "c1", "a2", "b2", "a3"])
        self.assertEqual(len(self.line), 0)

    def test_servedAccountGoesToTheEnd(self) -> None:
        """
        An account that was just served comes after those that wait.
        """
        self.join("a1", "a2", "b1")
        first = self.line.next()
        assert first is not None
        self.join("a3", "c1")
        self.assertEqual((first.wanted, self.order()), ("a1", ["b1", "a2", "c1", "a3"]))

    def test_leaving(self) -> None:
        """
        Who leaves is passed over, and can leave once.
        """
        one, two, three = self.join("a1", "a2", "b1")
        self.assertEqual(
            [self.line.leave(two), self.line.leave(two), self.line.leave(three)], [True, False, True]
        )
        self.assertEqual((len(self.line), list(self.line.emptied()), len(self.line)), (1, [one], 0))

    def test_whoMakesPlace(self) -> None:
        """
        The last of the longest, unless the newcomer's account would have as
        many.
        """
        self.assertIsNone(self.line.lastOfLongest("a"))
        waiting = self.join("a1", "a2", "a3", "b1")
        self.assertIs(self.line.lastOfLongest("c"), waiting[2])
        self.assertIs(self.line.lastOfLongest("b"), waiting[2])
        self.assertIsNone(self.line.lastOfLongest("a"))
        self.join("b2")
        self.assertIsNone(self.line.lastOfLongest("b"))

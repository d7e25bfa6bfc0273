"""
What is known of a worker's list of tools.
"""

from __future__ import annotations

from openai_server.sessions.catalogue.hiding import sizeOf
from openai_server.sessions.catalogue.toollist import SILENCE, ToolList
from openai_server.sessions.contexts import ToolSet
from tests.support import SyncCase, TestClock


def toolSet(*names: str) -> ToolSet:
    """
    A set of tools with these names.
    """
    return ToolSet(frozenset(names), " ".join(names).encode())


ONE, OTHER = toolSet("f", "g"), toolSet("h")


class ToolListTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.list = ToolList(self.clock)

    def test_sameToolsStartTogether(self) -> None:
        """
        U31: a prompt with the last one's tools does not wait, one with others
        does, one without tools does not.
        """
        self.list.started("a", ONE)
        self.assertTrue(self.list.isOpenFor(toolSet("f", "g")))
        self.assertFalse(self.list.isOpenFor(OTHER))
        self.assertTrue(self.list.isOpenFor(None))

    def test_lifeOpens(self) -> None:
        """
        U31: when all that were started have shown life, other tools may come.
        """
        self.list.started("a", ONE)
        self.list.started("b", ONE)
        self.list.showedLife("a", ONE)
        self.assertFalse(self.list.isOpenFor(OTHER))
        self.list.showedLife("b", ONE)
        self.assertTrue(self.list.isOpenFor(OTHER))

    def test_promptWithoutToolsIsWaitedFor(self) -> None:
        """
        Its process reads the list as well.
        """
        self.list.started("a", None)
        self.assertFalse(self.list.isOpenFor(ONE))
        self.list.showedLife("a", None)
        self.assertTrue(self.list.isOpenFor(ONE))

    def test_goneIsNotWaitedFor(self) -> None:
        """
        What a cancelled turn's model sees matters to nobody.
        """
        self.list.started("a", ONE)
        self.list.gone("a")
        self.assertTrue(self.list.isOpenFor(OTHER))

    def test_silence(self) -> None:
        """
        U31: who showed nothing for 15 s no longer counts; the gate says how
        long that takes.
        """
        self.list.started("a", ONE)
        self.clock.advance(5)
        self.list.started("b", ONE)
        self.assertEqual(self.list.secondsShut(), SILENCE - 5)
        self.clock.advance(SILENCE - 5)
        self.assertEqual(self.list.secondsShut(), 5)
        self.assertFalse(self.list.isOpenFor(OTHER))
        self.clock.advance(5)
        self.assertTrue(self.list.isOpenFor(OTHER))
        self.assertEqual(self.list.secondsShut(), 0)

    def test_hiddenNames(self) -> None:
        """
        A prompt without tools is told what the worker's list may hold; one
        with tools overwrites the list.
        """
        self.assertEqual(self.list.started("a", None), ())
        self.assertEqual(self.list.started("b", ONE), ())
        self.list.showedLife("b", ONE)
        self.assertEqual(self.list.started("c", None), ("f", "g"))

    def test_namesOfAnUnseenList(self) -> None:
        """
        Until a turn shows that its list has reached the worker, the names of
        the list before may still be there.
        """
        self.list.started("a", ONE)
        self.list.showedLife("a", ONE)
        self.list.started("b", OTHER)
        self.assertEqual(self.list.started("c", None), ("f", "g", "h"))
        self.list.showedLife("b", OTHER)
        self.assertEqual(self.list.started("d", None), ("h",))

    def test_lateLifeProvesNothing(self) -> None:
        """
        A turn that was given up for silent read its list before later ones.
        """
        self.list.started("a", ONE)
        self.clock.advance(SILENCE)
        self.assertTrue(self.list.isOpenFor(OTHER))
        self.list.started("b", OTHER)
        self.clock.advance(SILENCE)
        self.assertTrue(self.list.isOpenFor(ONE))
        self.list.started("c", ONE)
        self.list.showedLife("a", ONE)
        self.assertEqual(self.list.started("d", None), ("f", "g", "h"))


class CrowdedListTests(SyncCase):
    """
    A gate behind which the names of two lists cannot be hidden together.
    """

    LISTS = [toolSet(*(f"{letter}{number}" for number in range(9))) for letter in "abc"]

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.list = ToolList(self.clock, sizeOf(self.LISTS[0].names) + sizeOf(["b0", "b1"]))
        self.first, self.second, self.third = self.LISTS
        self.list.started("a", self.first)
        self.list.showedLife("a", self.first)

    def hidden(self) -> set[str]:
        """
        What is hidden from a prompt that goes out now.
        """
        names = self.list.started("innocent", None)
        self.assertEqual(list(names), sorted(names))
        self.list.gone("innocent")
        return set(names)

    def test_waitsForTheLastList(self) -> None:
        """
        A prompt without tools waits until it is known which list there is, and
        no longer.
        """
        self.assertTrue(self.list.isOpenFor(None))
        self.list.started("b", self.second)
        self.list.started("c", self.second)
        self.assertFalse(self.list.isOpenFor(None))
        self.assertTrue(self.list.isOpenFor(self.second))
        self.list.showedLife("b", self.second)
        self.assertTrue(self.list.isOpenFor(None))
        self.assertFalse(self.list.isOpenFor(self.first))
        self.assertEqual(self.hidden(), self.second.names)

    def test_lastListIsNeverShown(self) -> None:
        """
        When nobody will show which list there is, the last one's names are
        hidden, and as many of the others as there is room for.
        """
        self.list.started("b", self.second)
        self.list.gone("b")
        self.assertTrue(self.list.isOpenFor(None))
        self.assertEqual(self.hidden(), {*self.second.names, "a0", "a1"})
        self.list.started("c", self.third)
        self.assertFalse(self.list.isOpenFor(None))
        self.clock.advance(SILENCE)
        self.assertTrue(self.list.isOpenFor(None))
        self.assertEqual(self.hidden(), {*self.third.names, "b0", "b1"})

    def test_sameListAgainProvesNothing(self) -> None:
        """
        Only life shows that a list has arrived.
        """
        for turn in "bcd":
            self.list.started(turn, self.second)
        self.assertFalse(self.list.isOpenFor(None))

    def test_manyListsThatNobodyShows(self) -> None:
        """
        Clients that ask and leave do not make the gate grow.
        """
        for number in range(100):
            self.list.started("b", toolSet(*(f"{number:04}_{at}" for at in range(9))))
            self.list.gone("b")
        self.assertEqual(len(self.list._visible), 18)

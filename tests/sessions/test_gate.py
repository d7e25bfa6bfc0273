"""
The gate that keeps tool lists apart.
"""

from __future__ import annotations

from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.gate import SILENCE, Gate
from openai_server.sessions.hiding import sizeOf
from tests.support import SyncCase, TestClock


def catalogue(*names: str) -> Catalogue:
    """
    A catalogue of tools with these names.
    """
    return Catalogue(frozenset(names), " ".join(names).encode())


ONE, OTHER = catalogue("f", "g"), catalogue("h")


class GateTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.gate = Gate(self.clock)

    def test_sameToolsStartTogether(self) -> None:
        """
        U31: a prompt with the last one's tools does not wait, one with others
        does, one without tools does not.
        """
        self.gate.started("a", ONE)
        self.assertTrue(self.gate.isOpenFor(catalogue("f", "g")))
        self.assertFalse(self.gate.isOpenFor(OTHER))
        self.assertTrue(self.gate.isOpenFor(None))

    def test_lifeOpens(self) -> None:
        """
        U31: when all that were started have shown life, other tools may come.
        """
        self.gate.started("a", ONE)
        self.gate.started("b", ONE)
        self.gate.showedLife("a", ONE)
        self.assertFalse(self.gate.isOpenFor(OTHER))
        self.gate.showedLife("b", ONE)
        self.assertTrue(self.gate.isOpenFor(OTHER))

    def test_promptWithoutToolsIsWaitedFor(self) -> None:
        """
        Its process reads the list as well.
        """
        self.gate.started("a", None)
        self.assertFalse(self.gate.isOpenFor(ONE))
        self.gate.showedLife("a", None)
        self.assertTrue(self.gate.isOpenFor(ONE))

    def test_goneIsNotWaitedFor(self) -> None:
        """
        What a cancelled turn's model sees matters to nobody.
        """
        self.gate.started("a", ONE)
        self.gate.gone("a")
        self.assertTrue(self.gate.isOpenFor(OTHER))

    def test_silence(self) -> None:
        """
        U31: who showed nothing for 15 s no longer counts; the gate says how
        long that takes.
        """
        self.gate.started("a", ONE)
        self.clock.advance(5)
        self.gate.started("b", ONE)
        self.assertEqual(self.gate.secondsShut(), SILENCE - 5)
        self.clock.advance(SILENCE - 5)
        self.assertEqual(self.gate.secondsShut(), 5)
        self.assertFalse(self.gate.isOpenFor(OTHER))
        self.clock.advance(5)
        self.assertTrue(self.gate.isOpenFor(OTHER))
        self.assertEqual(self.gate.secondsShut(), 0)

    def test_hiddenNames(self) -> None:
        """
        A prompt without tools is told what the worker's list may hold; one
        with tools overwrites the list.
        """
        self.assertEqual(self.gate.started("a", None), ())
        self.assertEqual(self.gate.started("b", ONE), ())
        self.gate.showedLife("b", ONE)
        self.assertEqual(self.gate.started("c", None), ("f", "g"))

    def test_namesOfAnUnseenList(self) -> None:
        """
        Until a turn shows that its list has reached the worker, the names of
        the list before may still be there.
        """
        self.gate.started("a", ONE)
        self.gate.showedLife("a", ONE)
        self.gate.started("b", OTHER)
        self.assertEqual(self.gate.started("c", None), ("f", "g", "h"))
        self.gate.showedLife("b", OTHER)
        self.assertEqual(self.gate.started("d", None), ("h",))

    def test_lateLifeProvesNothing(self) -> None:
        """
        A turn that was given up for silent read its list before later ones.
        """
        self.gate.started("a", ONE)
        self.clock.advance(SILENCE)
        self.assertTrue(self.gate.isOpenFor(OTHER))
        self.gate.started("b", OTHER)
        self.clock.advance(SILENCE)
        self.assertTrue(self.gate.isOpenFor(ONE))
        self.gate.started("c", ONE)
        self.gate.showedLife("a", ONE)
        self.assertEqual(self.gate.started("d", None), ("f", "g", "h"))


class CrowdedGateTests(SyncCase):
    """
    A gate behind which the names of two lists cannot be hidden together.
    """

    LISTS = [catalogue(*(f"{letter}{number}" for number in range(9))) for letter in "abc"]

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.gate = Gate(self.clock, sizeOf(self.LISTS[0].names) + sizeOf(["b0", "b1"]))
        self.first, self.second, self.third = self.LISTS
        self.gate.started("a", self.first)
        self.gate.showedLife("a", self.first)

    def hidden(self) -> set[str]:
        """
        What is hidden from a prompt that goes out now.
        """
        names = self.gate.started("innocent", None)
        self.assertEqual(list(names), sorted(names))
        self.gate.gone("innocent")
        return set(names)

    def test_waitsForTheLastList(self) -> None:
        """
        A prompt without tools waits until it is known which list there is, and
        no longer.
        """
        self.assertTrue(self.gate.isOpenFor(None))
        self.gate.started("b", self.second)
        self.gate.started("c", self.second)
        self.assertFalse(self.gate.isOpenFor(None))
        self.assertTrue(self.gate.isOpenFor(self.second))
        self.gate.showedLife("b", self.second)
        self.assertTrue(self.gate.isOpenFor(None))
        self.assertFalse(self.gate.isOpenFor(self.first))
        self.assertEqual(self.hidden(), self.second.names)

    def test_lastListIsNeverShown(self) -> None:
        """
        When nobody will show which list there is, the last one's names are
        hidden, and as many of the others as there is room for.
        """
        self.gate.started("b", self.second)
        self.gate.gone("b")
        self.assertTrue(self.gate.isOpenFor(None))
        self.assertEqual(self.hidden(), {*self.second.names, "a0", "a1"})
        self.gate.started("c", self.third)
        self.assertFalse(self.gate.isOpenFor(None))
        self.clock.advance(SILENCE)
        self.assertTrue(self.gate.isOpenFor(None))
        self.assertEqual(self.hidden(), {*self.third.names, "b0", "b1"})

    def test_sameListAgainProvesNothing(self) -> None:
        """
        Only life shows that a list has arrived.
        """
        for turn in "bcd":
            self.gate.started(turn, self.second)
        self.assertFalse(self.gate.isOpenFor(None))

    def test_manyListsThatNobodyShows(self) -> None:
        """
        Clients that ask and leave do not make the gate grow.
        """
        for number in range(100):
            self.gate.started("b", catalogue(*(f"{number:04}_{at}" for at in range(9))))
            self.gate.gone("b")
        self.assertEqual(len(self.gate._visible), 18)

"""
The gate that keeps tool lists apart.
"""

from __future__ import annotations

from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.gate import SILENCE, Gate
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

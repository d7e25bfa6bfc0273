"""
Tests for L{openai_server.web.bursts}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai_server.web.bursts import LONGEST, Bursts
from tests.support import SyncCase


class Turns:
    """
    A clock whose calls come when the reactor turns.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], None]] = []

    def seconds(self) -> float:
        """
        The time.
        """
        return self.now

    def callLater(self, delay: float, call: Callable[[], None]) -> object:
        """
        Call in the next turn.
        """
        self.calls.append(call)
        return call

    def turn(self) -> None:
        """
        Make the calls that are due.
        """
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class BurstTests(SyncCase):
    """
    Requests of which each takes nearly half of what is begun at once.
    """

    def setUp(self) -> None:
        super().setUp()
        self.turns = Turns()
        self.begun: list[int] = []
        clock: Any = self.turns
        self.bursts: Bursts[int] = Bursts(clock, self.begin)

    def begin(self, number: int) -> None:
        """
        Note a request, and let time pass.
        """
        self.begun.append(number)
        self.turns.now += 0.4 * LONGEST

    def test_oneAfterTheOther(self) -> None:
        """
        Requests with time between them are begun at once.
        """
        for number in range(20):
            self.bursts.take(number)
            self.turns.now += 0.001
        self.assertEqual((self.begun, self.turns.calls), (list(range(20)), []))

    def test_slices(self) -> None:
        """
        Of a burst a few are begun, the others in later turns of the reactor, in
        their order, whoever comes meanwhile behind them.
        """
        for number in range(10):
            self.bursts.take(number)
        self.assertEqual(self.begun, [0, 1, 2])
        turns = []
        while self.turns.calls:
            before = len(self.begun)
            self.turns.turn()
            turns.append(len(self.begun) - before)
            if len(turns) == 1:
                self.bursts.take(10)
        self.assertEqual(self.begun, list(range(11)))
        self.assertLessEqual(max(turns), 3)

    def test_afterABurst(self) -> None:
        """
        When all is quiet again requests are begun at once.
        """
        for number in range(10):
            self.bursts.take(number)
        while self.turns.calls:
            self.turns.turn()
        self.turns.now += 1
        self.bursts.take(10)
        self.assertEqual(self.begun[-1], 10)

    def test_oneThatFails(self) -> None:
        """
        Those behind it are begun all the same.
        """
        begin = self.begin

        def failing(number: int) -> None:
            begin(number)
            if number == 5:
                raise ValueError

        clock: Any = self.turns
        self.bursts = Bursts(clock, failing)
        for number in range(10):
            self.bursts.take(number)
        failures = 0
        while self.turns.calls:
            try:
                self.turns.turn()
            except ValueError:
                failures += 1
        self.assertEqual((self.begun, failures), (list(range(10)), 1))

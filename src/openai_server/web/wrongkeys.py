# -*- test-case-name: tests.web.test_wrongkeys -*-
"""
Who sends wrong keys, and how often.

A window of a minute is counted for each address. A right key is let in
whatever was counted: behind one address may be many programs, and a wrong one
among them must not lock the others out.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import Final

#: Wrong keys that an address may send in one window.
MOST_WRONG: Final = 30
#: Seconds of a window, from its first wrong key.
WINDOW: Final = 60.0
#: Addresses that are remembered; the one that was heard of longest ago goes first.
MAX_ADDRESSES: Final = 1000


class WrongKeys:
    """
    Counts of wrong keys by address.
    """

    def __init__(self) -> None:
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """
        Addresses that are remembered.
        """
        return len(self._windows)

    def note(self, address: str, now: float) -> int:
        """
        This address has sent a wrong key.

        @param now: on a monotonic clock, in seconds.
        @return: seconds for which it has sent too many; 0 while it has not.
        """
        began, count = self._windows.get(address, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        self._windows[address] = (began, count + 1)
        self._windows.move_to_end(address)
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)
        return ceil(began + WINDOW - now) if count >= MOST_WRONG else 0

# -*- test-case-name: tests.daemon.test_turn -*-
"""
The states of a turn, and what each input makes of them.

    asked ----> running <---> parked        the audience is told
      |            |            |
      |            +-> settling <+          still told, but never cancelled
      v            v     |
    draining <-----------+                  nobody is told, the worker goes on
      |
      v
    ended                                   C{finish}, C{error}, or loss

Each input is a table from a state to the next one. An input changes nothing in
a state that its table does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

ASKED: Final = 0
RUNNING: Final = 1
PARKED: Final = 2
SETTLING: Final = 3
DRAINING: Final = 4
ENDED: Final = 5

#: The states in words, by their numbers.
NAMES: Final = ("asked", "running", "parked", "settling", "draining", "ended")

Moves: TypeAlias = Mapping[int, int]

#: The worker showed its first sign of life.
LIVE: Final[Moves] = {ASKED: RUNNING}

#: The model waits for a tool's result.
PARK: Final[Moves] = {ASKED: PARKED, RUNNING: PARKED}

#: The model has its results.
RESUME: Final[Moves] = {PARKED: RUNNING}

#: The turn is to end in good order by itself.
SETTLE: Final[Moves] = {ASKED: SETTLING, RUNNING: SETTLING, PARKED: SETTLING}

#: The audience wants the turn no more.
CANCEL: Final[Moves] = {ASKED: DRAINING, RUNNING: DRAINING, PARKED: DRAINING, SETTLING: DRAINING}

#: The audience wants to hear what comes of it, and nobody waits for that.
LEAVE: Final = frozenset({ASKED, RUNNING})

#: A deadline has passed, or the audience failed.
GIVE_UP: Final[Moves] = {**CANCEL, DRAINING: ENDED}

#: The worker is done with the turn, or is no more.
END: Final[Moves] = {ASKED: ENDED, RUNNING: ENDED, PARKED: ENDED, SETTLING: ENDED, DRAINING: ENDED}

#: The connection was lost.
UNLINK: Final[Moves] = {ASKED: ENDED, RUNNING: ENDED, SETTLING: ENDED, DRAINING: ENDED}

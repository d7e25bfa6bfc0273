# -*- test-case-name: tests.daemon.test_turn -*-
"""
How a turn ends: with the worker's own word, or in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from openai_server.wire.tones import Error, Finish


class Loss(Enum):
    """
    Why a turn ended without a word from its worker.
    """

    NO_ECHO = "no echo"
    PAST_DUSK = "past dusk"
    NO_LIFE = "no sign of life"
    STALLED = "stalled"
    TOO_LONG = "turn limit"
    DAEMON_LOST = "daemon lost"
    WORKER_LOST = "worker lost"
    DRAIN_LIMIT = "drain limit"
    #: An audience raised: the turn was cancelled for it.
    FAULT = "fault in the audience"


@dataclass(frozen=True)
class Lost:
    """
    A turn that ended in silence.

    @ivar seen: whether a chunk or a tool-call had come: then a worker has
        acted and asking again is not safe.
    """

    why: Loss
    seen: bool


#: How a turn ends: the worker's own word (an C{Error} here has no C{callId}), or its absence.
TurnEnd: TypeAlias = Finish | Error | Lost


#: Finish reasons of a turn that came to its own end, in the words of workers
#: and of the wire specification.
_GOOD: Final = (
    None,
    "success",
    "stop",
    "end_turn",
    "stop_sequence",
    "pause_turn",
    "tool_use",
    "max_tokens",
    "length",
)


def endsWell(end: TurnEnd) -> bool:
    """
    Whether a turn came to its own good end, so that its sid may be prompted
    again: a C{finish} without C{exitCode}, with a reason that tells of no
    trouble. A reason that is not known may tell of some.
    """
    if not isinstance(end, Finish) or end.exitCode is not None:
        return False
    return end.finishReason in _GOOD

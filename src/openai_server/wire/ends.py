# -*- test-case-name: tests.daemon.test_turn -*-
"""
How a turn ends: with the worker's own word, or in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

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


#: What a worker's finish reason means to whoever reads the answer; C{error} is
#: no finish reason.
Ending: TypeAlias = Literal["stop", "length", "content_filter", "error"]

#: Finish reasons in the words of workers, of models' vendors and of the wire
#: specification, and whether the sid may be prompted again after each.
_ENDINGS: Final[dict[str, tuple[Ending, bool]]] = {
    "success": ("stop", True),
    "stop": ("stop", True),
    "end_turn": ("stop", True),
    "stop_sequence": ("stop", True),
    "pause_turn": ("stop", True),
    "tool_use": ("stop", True),
    "tool_calls": ("stop", True),
    "complete": ("stop", True),
    "completed": ("stop", True),
    "done": ("stop", True),
    "max_tokens": ("length", True),
    "length": ("length", True),
    # There is no room for another prompt.
    "model_context_window_exceeded": ("length", False),
    # What was refused stays in the session, and what follows is refused too.
    "refusal": ("content_filter", False),
    "content_filter": ("content_filter", False),
}


def endingOf(finishReason: Any) -> Ending:
    """
    Return what a C{finish} without an exit code means. A reason that is not
    known is an error: a cut answer must not look complete.
    """
    return _known(finishReason)[0]


def endsWell(end: TurnEnd) -> bool:
    """
    Whether a turn came to its own good end, so that its sid may be prompted
    again: a C{finish} without C{exitCode}, with a reason that tells of no
    trouble. A reason that is not known may tell of some.
    """
    return isinstance(end, Finish) and end.exitCode is None and _known(end.finishReason)[1]


def _known(finishReason: Any) -> tuple[Ending, bool]:
    if finishReason is None:
        return "stop", True
    if not isinstance(finishReason, str):
        return "error", False
    return _ENDINGS.get(finishReason.lower().replace("-", "_"), ("error", False))

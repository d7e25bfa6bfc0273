# -*- test-case-name: tests.daemon -*-
"""
How long this bee waits for what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from openai_server import constants


@dataclass(frozen=True)
class WaitLimits:
    """
    All waits of this room, in seconds.

    @ivar handshake: from the connection to the daemon's first breath.
    @ivar attempt: a request, for the end of an attempt to connect.
    @ivar heartbeat: between two heartbeats.
    @ivar echo: from a prompt to its echo, and from a heartbeat to any answer.
    @ivar firstLife: from the echo to the first tone of the worker's: it waits
        up to 180 s for its process, twice.
    @ivar stall: between two tones of a turn that is not parked.
    @ivar turn: a whole turn.
    @ivar drain: a turn that nobody wants any more is forgotten then.
    @ivar notYet: after a connection, while workers may still be on their way:
        "no worker" means "not yet" (humd 0.31.18: they are back within 2 s).
    @ivar names: at most this long after a turn, its tools' names are withdrawn.
    @ivar close: for what is still unsent when the link stops.
    """

    handshake: float = field(default_factory=lambda: constants.HANDSHAKE_TIMEOUT)
    attempt: float = 1
    heartbeat: float = field(default_factory=lambda: constants.HEARTBEAT_INTERVAL)
    echo: float = field(default_factory=lambda: constants.ECHO_TIMEOUT)
    firstLife: float = 370
    stall: float = 900
    turn: float = 3600
    drain: float = 600
    notYet: float = 5
    names: float = 0.5
    close: float = 1


DEFAULT_LIMITS: Final = WaitLimits()

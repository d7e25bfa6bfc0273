# -*- test-case-name: tests.sessions.test_calls -*-
"""
The ids under which clients know tool calls.
"""

from __future__ import annotations

import re
import secrets

_shape = re.compile(r"call_[A-Za-z0-9_-]{32}")


def newPublicCallId() -> str:
    """
    A call id for a client: 37 characters, and not to be guessed. A worker's
    own ids are short and count upwards, so they never leave this server.
    """
    return "call_" + secrets.token_urlsafe(24)


def isPublicCallId(callId: str) -> bool:
    """
    The id has the shape of those that this server makes.
    """
    return _shape.fullmatch(callId) is not None

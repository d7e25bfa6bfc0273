# -*- test-case-name: tests.api.test_sse -*-
"""
Server-sent events, as bytes.

Each event is one C{data:} line and a blank line; there are no C{id:} or
C{retry:} lines, which clients are known to trip over.
"""

from __future__ import annotations

from typing import Final

import msgspec

from openai_server.api.problem import errorBody
from openai_server.errors import APIError

#: The content type of a stream.
STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"
#: The end of every stream of chat that went well, and of no other.
DONE: Final = b"data: [DONE]\n\n"
#: What a silent stream says, by the setting: None is an empty chunk, and a
#: comment is for clients that must not see these.
_KEEP_ALIVES: Final[dict[str, bytes | None]] = {"chunk": None, "comment": b": keep-alive\n\n"}

_encode = msgspec.json.Encoder().encode


def keepAliveFrom(setting: str) -> bytes | None:
    """
    Return what a silent stream says as a sign of life: None for an empty chunk,
    and no bytes for nothing.
    """
    return _KEEP_ALIVES.get(setting, b"")


def jsonLine(value: object) -> bytes:
    """
    Return a value as JSON that stays one line for every reader.
    """
    encoded = _encode(value)
    return encoded if encoded.isascii() else oneLine(encoded)


def oneLine(encoded: bytes) -> bytes:
    """
    Return JSON with U+0085, U+2028 and U+2029 escaped, at which some clients
    split lines.
    """
    # Looking for one byte is many times faster than for two or three.
    if b"\xe2" in encoded:
        encoded = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2" in encoded:
        encoded = encoded.replace(b"\xc2\x85", b"\\u0085")
    return encoded


def errorEvent(error: APIError) -> bytes:
    """
    Return the last event of a stream that could not be completed. Nothing
    follows it: no C{[DONE]}, and no clean end.
    """
    body = errorBody(error)
    return b"data: %b\n\n" % (body if body.isascii() else oneLine(body))

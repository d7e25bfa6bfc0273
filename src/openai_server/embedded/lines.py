# -*- test-case-name: tests.embedded.test_lines -*-
"""
Lines as the daemon reads and writes them.

Seen with humd 0.31.18: what it cannot parse it drops without a word, what is
not UTF-8 makes it close the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from openai_server.wire.ids import sigil
from openai_server.wire.readable import MAX_NESTING, isBeyondDouble, isDeeper

#: The name of the daemon's nest, from which it makes sigils.
NEST: Final = "embedded"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_encodeSorted = msgspec.json.Encoder(order="sorted").encode


def toneFromLine(line: bytes) -> dict[str, Any] | None:
    """
    The tone on a line, or None when the daemon would drop it.

    @raise UnicodeDecodeError: the line is not UTF-8.
    """
    line.decode()
    try:
        tone = _decode(line)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not isinstance(tone, dict) or not isinstance(tone.get("chi"), str) or not tone["chi"]:
        return None
    return None if isDeeper(tone, MAX_NESTING) or isBeyondDouble(tone) else tone


def lineFromMembers(members: Mapping[str, Any]) -> bytes:
    """
    A tone as one line with its newline; members in the order of their names,
    as the daemon writes them.
    """
    return _encodeSorted(members) + b"\n"


def nestId(sid: str) -> str:
    """
    The worker's own id for a session: always the same for the same sid.
    """
    return str(uuid5(NAMESPACE_URL, sid))


class TurnLines:
    """
    Makes the lines of one session: each is stamped with C{from}, C{sid} and
    C{sigil}, as the daemon does with what it passes on to owners.
    """

    def __init__(self, sid: str) -> None:
        self._stamp = {"from": "daemon", "sid": sid, "sigil": sigil(sid, NEST)}
        self._tail = b"," + _encodeSorted(self._stamp)[1:] + b"\n"

    def stamped(self, members: Mapping[str, Any]) -> bytes:
        """
        A tone of this session.
        """
        return lineFromMembers({**members, **self._stamp})

    def deltas(self, kind: str, block: int, texts: Iterable[str]) -> list[bytes]:
        """
        Deltas of one block, in the worker's own dialect.

        @param kind: C{text} or C{reasoning}.
        """
        head = b'{"blockIdx":%d,"chi":"chunk","chunkType":"%s_delta","delta":' % (block, kind.encode())
        tail = self._tail
        return [head + _encode(text) + tail for text in texts]

    def parts(self, kind: str, block: int, texts: Iterable[str]) -> list[bytes]:
        """
        Deltas of one block, in the dialect of thrum's wire specification.
        """
        head = b'{"chi":"chunk","index":%d,"part":{"type":"%s","text":' % (block, kind.encode())
        tail = b"}" + self._tail
        return [head + _encode(text) + tail for text in texts]

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
    Return the tone on a line, or None when the daemon would drop it.

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
    Return a tone as one line with its newline; members in the order of their names,
    as the daemon writes them.
    """
    return _encodeSorted(members) + b"\n"


def nestId(sid: str) -> str:
    """
    Return the worker's own id for a session: always the same for the same sid.
    """
    return str(uuid5(NAMESPACE_URL, sid))


def stamp(sid: str) -> dict[str, str]:
    """
    Return what the daemon adds to a tone that it gives to the owners of a session.
    """
    return {"from": "daemon", "sigil": sigil(sid, NEST)}


class TurnLines:
    """
    Makes the lines of one session, in the worker's own dialect. Each is stamped
    with C{from}, C{sid} and C{sigil}, as the daemon does with what it passes on
    to owners.

    @ivar tail: the end of a line: the stamp's members, each after a comma.
    """

    def __init__(self, sid: str) -> None:
        self._stamp = {**stamp(sid), "sid": sid}
        self.tail = b"," + _encodeSorted(self._stamp)[1:] + b"\n"

    def stamped(self, members: Mapping[str, Any]) -> bytes:
        """
        Return a tone of this session.
        """
        return lineFromMembers({**members, **self._stamp})

    def opening(self, kind: str, block: int) -> list[bytes]:
        """
        Return the lines that begin a block.

        @param kind: C{text} or C{reasoning}.
        """
        return [self.stamped({"chi": "chunk", "chunkType": f"{kind}_start", "blockIdx": block})]

    def deltas(self, kind: str, block: int, texts: Iterable[str]) -> list[bytes]:
        """
        Return the deltas of a block.
        """
        head = b'{"blockIdx":%d,"chi":"chunk","chunkType":"%s_delta","delta":' % (block, kind.encode())
        return [head + _encode(text) + self.tail for text in texts]

    def closing(self, block: int) -> list[bytes]:
        """
        Return the lines that end a block.
        """
        return [self.stamped({"chi": "chunk", "chunkType": "content_block_stop", "blockIdx": block})]

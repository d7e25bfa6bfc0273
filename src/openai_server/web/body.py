# -*- test-case-name: tests.web.test_channel -*-
"""
The body of a request, in memory, decoded, and bounded while it arrives.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from backports import zstd

from openai_server.errors import APIError
from openai_server.web.bodybudget import BodyShare

#: Pieces after which a chunked body must have brought C{PIECE_SIZE} bytes each
#: on the average: decoding a chunk of one byte costs as much as a large one.
PIECES: Final = 10_000
PIECE_SIZE: Final = 16
#: Bytes that are unpacked at a time, so that no bomb goes off.
SLICE: Final = 64 * 1024

#: zlib's word for "a gzip header, any window".
_GZIP: Final = 16 + zlib.MAX_WBITS
#: A window that holds the largest body there is by default.
_ZSTD: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 25}


class Body:
    """
    What a client sends after the head of a request.

    @ivar limit: bytes it may have, decoded.
    @ivar received: bytes that came so far, as they came.
    """

    __slots__ = ("_data", "_pieces", "_share", "limit", "received")

    def __init__(self, limit: int, share: BodyShare | None = None) -> None:
        self.limit = limit
        self._share = share
        self.received = 0
        self._data: bytes | bytearray = b""
        self._pieces = 0

    def write(self, data: bytes) -> None:
        """
        Take one more piece.

        @raise APIError: it is too large, or comes in far too many pieces.
        """
        self._pieces += 1
        self.received += len(data)
        if self._pieces > PIECES and self.received < self._pieces * PIECE_SIZE:
            raise APIError("bad_request", "The body comes in too many too small pieces.")
        self.keep(data)

    def keep(self, data: bytes) -> None:
        """
        Add decoded bytes.

        @raise APIError: they are too many, by themselves or with those of other
            bodies.
        """
        if len(self._data) + len(data) > self.limit:
            raise tooLarge(self.limit)
        if self._share is not None:
            self._share.grow(len(data))
        if not self._data:
            self._data = data
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += data

    def complete(self) -> bytes:
        """
        Return all of it, decoded: nothing more comes.

        @raise APIError: something is missing.
        """
        return bytes(self._data)


class PackedBody(Body):
    """
    A body that comes compressed; the limit counts what comes out of it.
    """

    __slots__ = ("_encoding", "_unpacker")

    def __init__(self, limit: int, encoding: str, share: BodyShare | None = None) -> None:
        super().__init__(limit, share)
        self._encoding = encoding
        self._unpacker: Any = _UNPACKERS[encoding]()

    def keep(self, data: bytes) -> None:
        """
        Unpack a piece, and never more than a slice beyond the limit.

        @raise APIError: it is too large, or not what it says.
        """
        try:
            for piece in self._unpacked(data):
                super().keep(piece)
        except (zlib.error, zstd.ZstdError, EOFError):
            raise self._broken() from None

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        unpacker = self._unpacker
        while True:
            piece = unpacker.decompress(data, SLICE)
            yield piece
            # zlib gives back what it did not get to; zstd keeps it.
            data = getattr(unpacker, "unconsumed_tail", b"")
            if not data and len(piece) < SLICE:
                return
            if unpacker.eof:
                return

    def complete(self) -> bytes:
        """
        Return all of it, decoded.

        @raise APIError: something is missing, or something follows.
        """
        if not self._unpacker.eof or self._unpacker.unused_data:
            raise self._broken()
        return super().complete()

    def _broken(self) -> APIError:
        return APIError("bad_request", f"The body is not what its content encoding, {self._encoding}, says.")


_UNPACKERS: Final[dict[str, Callable[[], Any]]] = {
    "gzip": lambda: zlib.decompressobj(_GZIP),
    "deflate": zlib.decompressobj,
    "zstd": lambda: zstd.ZstdDecompressor(options=_ZSTD),
}


def bodyFor(encoding: bytes, limit: int, share: BodyShare | None = None) -> Body:
    """
    Return an empty body for this C{Content-Encoding}.

    @param share: what it holds of the budget for all bodies, if there is one.
    @raise APIError: we cannot decode that.
    """
    if not encoding:
        return Body(limit, share)
    name = encoding.strip().lower().decode("latin-1").removeprefix("x-")
    if name in ("", "identity"):
        return Body(limit, share)
    if name in _UNPACKERS:
        return PackedBody(limit, name, share)
    shown = encoding.strip().lower()[:40].decode("ascii", "replace")
    raise APIError(
        "unsupported_content_encoding",
        f"The content encoding {shown!r} is not supported: send it plain, or with gzip, deflate or zstd.",
    )


def tooLarge(limit: int) -> APIError:
    """
    Return the error for a body beyond the limit.
    """
    return APIError("request_too_large", f"The request body is larger than {limit} bytes.")

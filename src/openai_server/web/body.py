# -*- test-case-name: tests.web.test_channel -*-
"""
The body of a request, in memory, decoded, and bounded while it arrives.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Final

from openai_server.errors import APIError

#: Pieces after which a chunked body must have brought C{PIECE_SIZE} bytes each
#: on the average: decoding a chunk of one byte costs as much as a large one.
PIECES: Final = 10_000
PIECE_SIZE: Final = 16

#: zlib's word for "a gzip header, any window".
_GZIP: Final = 16 + zlib.MAX_WBITS


class Body:
    """
    What a client sends after the head of a request. Twisted knows it as the
    request's C{content}.

    @ivar limit: bytes it may have, decoded.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._file = BytesIO()
        self._size = 0
        self._pieces = 0

    def write(self, data: bytes) -> None:
        """
        One more piece.

        @raise APIError: it is too large, or comes in far too many pieces.
        """
        self._pieces += 1
        self._size += len(data)
        if self._size > self.limit:
            raise tooLarge(self.limit)
        if self._pieces > PIECES and self._size < self._pieces * PIECE_SIZE:
            raise APIError("bad_request", "The body comes in too many too small pieces.")
        self._file.write(data)

    def complete(self) -> None:
        """
        Nothing more comes.

        @raise APIError: something is missing.
        """

    def getvalue(self) -> bytes:
        """
        All of it, decoded.
        """
        return self._file.getvalue()

    def close(self) -> None:
        """
        Free the memory.
        """
        self._file.close()


class GzipBody(Body):
    """
    A body that comes compressed; the limit counts what comes out of it.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._inflate = zlib.decompressobj(_GZIP)

    def write(self, data: bytes) -> None:
        """
        See L{Body.write}. Never decodes more than the limit and one byte.
        """
        try:
            decoded = self._inflate.decompress(data, self.limit + 1 - self._size)
        except zlib.error:
            raise _notGzip() from None
        super().write(decoded)

    def complete(self) -> None:
        """
        See L{Body.complete}. What follows the compressed data is an error too.
        """
        if not self._inflate.eof or self._inflate.unused_data:
            raise _notGzip()


def bodyFor(encoding: bytes, limit: int) -> Body:
    """
    An empty body for this C{Content-Encoding}.

    @raise APIError: we cannot decode that.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return Body(limit)
    if name in (b"gzip", b"x-gzip"):
        return GzipBody(limit)
    shown = name[:40].decode("ascii", "replace")
    raise APIError(
        "unsupported_content_encoding",
        f"The content encoding {shown!r} is not supported: send the body plain or with gzip.",
    )


def tooLarge(limit: int) -> APIError:
    """
    The error for a body beyond the limit.
    """
    return APIError("request_too_large", f"The request body is larger than {limit} bytes.")


def _notGzip() -> APIError:
    return APIError("bad_request", "The body is not what its content encoding, gzip, says.")

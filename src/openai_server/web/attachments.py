# -*- test-case-name: tests.web.test_attachments -*-
"""
Files for what clients attach: workers read none of a prompt's attachments, but
can read local files.

They hold what people sent to a model: the folder is this process's and this
user's alone, its names say nothing, and a file lives as long as its turn.
"""

from __future__ import annotations

import os
import secrets
import shutil
from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from openai_server.clock import Clock
from openai_server.errors import APIError
from openai_server.runtime import makeFolder, removeLeftBehind

#: Bytes of all files together.
TOTAL_BYTES: Final = 512 * 1024 * 1024
#: Bytes of base64 that are decoded and written in one turn of the reactor.
SLICE: Final = 256 * 1024

_EXTENSIONS: Final = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "audio/flac": ".flac",
    "audio/mp3": ".mp3",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}


@dataclass
class Stored:
    """
    One attachment on disk.

    @ivar size: bytes, decoded.
    """

    path: Path
    size: int
    _folder: AttachmentFolder = field(repr=False)

    def release(self) -> None:
        """
        Remove the file: its turn is really over. Does nothing the second time.
        """
        self._folder.forget(self)


class AttachmentFolder:
    """
    The attachments of this process.
    """

    _log = Logger()

    def __init__(self, clock: Clock, root: Path, totalBytes: int = TOTAL_BYTES) -> None:
        """
        Touches nothing yet; the folder is made for the first file.

        @param root: where the folder is made; see
            L{runtimeDirectory<openai_server.runtime.runtimeDirectory>}.
        @param totalBytes: of all files at one time.
        """
        self._clock = clock
        self._root = root
        self._totalBytes = totalBytes
        self._usedBytes = 0
        self._path: Path | None = None
        self._stored: set[Path] = set()

    @property
    def usedBytes(self) -> int:
        """
        Bytes on disk, and bytes that files being written may still need.
        """
        return self._usedBytes

    def start(self) -> None:
        """
        Remove what processes left behind that are dead.
        """
        removeLeftBehind(self._root)

    def stop(self) -> None:
        """
        Remove all files and the folder.
        """
        path, self._path = self._path, None
        self._stored.clear()
        self._usedBytes = 0
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)

    async def write(self, kind: str, mediaType: str, data: str, param: str | None = None) -> Stored:
        """
        Put an attachment into a file. The reactor turns between slices.

        @param kind: what it is, as the tone says it.
        @param data: base64.
        @param param: the path of the field, for errors.
        @raise APIError: it is not base64, there is no room, or the disk does
            not want it. Then, and when this is cancelled, no file is left.
        """
        reserved = len(data) * 3 // 4
        if self._usedBytes + reserved > self._totalBytes:
            raise _noRoom()
        self._usedBytes += reserved
        try:
            path = self._newPath(mediaType)
            size = await self._fill(path, data, param)
        except OSError as error:
            self._log.error("cannot store {kind}: {reason}", kind=kind, reason=error.strerror)
            self._usedBytes -= reserved
            raise _noRoom() from None
        except BaseException:
            self._usedBytes -= reserved
            raise
        self._usedBytes -= reserved - size
        self._stored.add(path)
        return Stored(path, size, self)

    def forget(self, stored: Stored) -> None:
        """
        Remove one file.
        """
        if stored.path in self._stored:
            self._stored.discard(stored.path)
            self._usedBytes -= stored.size
            stored.path.unlink(missing_ok=True)

    def _newPath(self, mediaType: str) -> Path:
        # Somebody who tidies up may have taken it away.
        if self._path is None or not self._path.is_dir():
            self._path = makeFolder(self._root)
        plain = mediaType.partition(";")[0].strip().lower()
        return self._path / (secrets.token_hex(8) + _EXTENSIONS.get(plain, ".bin"))

    async def _fill(self, path: Path, data: str, param: str | None) -> int:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        size = 0
        try:
            for decoded in _decodedSlices(data, param):
                if size:
                    await self._nextTurn()
                size += _writeAll(file, decoded)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        return size

    def _nextTurn(self) -> Deferred[None]:
        turned: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(0, turned.callback, None)
        return turned


def _decodedSlices(data: str, param: str | None) -> Iterator[bytes]:
    """
    Base64 slice by slice; white space in it is skipped, missing padding is
    added.
    """
    carried = ""
    for at in range(0, len(data), SLICE):
        text = carried + "".join(data[at : at + SLICE].split())
        isLast = at + SLICE >= len(data)
        whole = len(text) if isLast else len(text) // 4 * 4
        text, carried = text[:whole], text[whole:]
        if isLast:
            text += "=" * (-len(text) % 4)
        try:
            yield a2b_base64(text.encode("ascii"), strict_mode=True)
        except (BadBase64, UnicodeEncodeError):
            raise APIError("invalid_value", "The data is not valid base64.", param=param) from None


def _writeAll(file: int, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    return len(data)


def _noRoom() -> APIError:
    return APIError("line_full", "There is no room for more attachments at the moment.", retryAfter=10)

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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.errors import APIError
from openai_server.runtime import makeFolder, removeLeftBehind
from openai_server.translate.attachments import Attached, decodedSlices
from openai_server.translate.mediatypes import extensionOf

#: Bytes of all files together.
TOTAL_BYTES: Final = 512 * 1024 * 1024


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

    def __init__(self, clock: IReactorTime, root: Path, totalBytes: int = TOTAL_BYTES) -> None:
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

    async def check(self, attached: Attached) -> None:
        """
        Check the data of an attachment that gets no file. The reactor turns
        between slices.

        @raise APIError: 400, it is not base64.
        """
        await self._decode(attached, lambda piece: None)

    async def write(self, attached: Attached) -> Stored:
        """
        Put an attachment with data into a file. The reactor turns between
        slices.

        @raise APIError: it is not base64, there is no room, or the disk does
            not want it. Then, and when this is cancelled, no file is left.
        """
        size = attached.size or 0
        if self._usedBytes + size > self._totalBytes:
            raise _noRoom()
        self._usedBytes += size
        try:
            path = self._newPath(attached.mediaType)
            await self._fill(path, attached)
        except OSError as error:
            self._log.error("cannot store {kind}: {reason}", kind=attached.kind, reason=error.strerror)
            self._usedBytes -= size
            raise _noRoom() from None
        except BaseException:
            self._usedBytes -= size
            raise
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
        return self._path / (secrets.token_hex(8) + extensionOf(mediaType))

    async def _fill(self, path: Path, attached: Attached) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            await self._decode(attached, lambda piece: _writeAll(file, piece))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    async def _decode(self, attached: Attached, take: Callable[[bytes], None]) -> None:
        for number, piece in enumerate(decodedSlices(attached)):
            if number:
                await self._nextTurn()
            take(piece)

    def _nextTurn(self) -> Deferred[None]:
        turned: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(0, turned.callback, None)
        return turned


def _writeAll(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _noRoom() -> APIError:
    return APIError("line_full", "There is no room for more attachments at the moment.", retryAfter=10)

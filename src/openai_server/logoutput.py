# -*- test-case-name: tests.test_logoutput -*-
"""
Where the lines of the log go: a file that is rotated, or the standard output.

Nothing here waits. An output whose reader is slow, or whose disk is full, has
no room for the moment; what it took is told, and the rest is its caller's.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

_STANDARD: Final = 1

_FLAGS: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Output(Protocol):
    """
    Where lines go.
    """

    def write(self, lines: bytes, /) -> int:
        """
        Write what there is room for.

        @return: how many bytes were written, from the beginning.
        @raise OSError: none was.
        """

    def isReady(self, seconds: float, /) -> bool:
        """
        Return whether a reader makes room within this time, and wait for it.
        """

    def reopen(self) -> None:
        """
        Open the file again that has this name now.
        """


class StandardOutput:
    """
    The standard output of the process.
    """

    def __init__(self) -> None:
        """
        @raise OSError: there is none.
        """
        self._isFile = stat.S_ISREG(os.fstat(_STANDARD).st_mode)
        self._descriptor = os.dup(_STANDARD) if self._isFile else _opened(_STANDARD)

    def write(self, lines: bytes) -> int:
        return (_writeWhole if self._isFile else os.write)(self._descriptor, lines)

    def isReady(self, seconds: float) -> bool:
        return not self._isFile and _isReady(self._descriptor, seconds)

    def reopen(self) -> None:
        """
        See L{Output.reopen}: it has no name.
        """


class RotatedFile:
    """
    A file that is put aside when it is large: C{x.log} becomes C{x.log.1}, and
    that one C{x.log.2}.

    What is no regular file (a FIFO, a device) is never put aside.
    """

    def __init__(self, path: str, largest: int, kept: int, mode: int = 0o666) -> None:
        """
        @param mode: of a file that is made, as far as the process's mask lets it.
        @param largest: bytes that it has at most; 0 for any number.
        @param kept: how many are kept beside it.
        @raise OSError: it cannot be opened, or is a FIFO that nobody reads.
        """
        self._path = path
        self._largest = largest
        self._kept = kept
        self._mode = mode
        self._descriptor = -1
        self._open()

    def write(self, lines: bytes) -> int:
        if not self._isFile:
            return os.write(self._descriptor, lines)
        if self._largest and self._size and self._size + len(lines) > self._largest:
            self._rotate()
        written = _writeWhole(self._descriptor, lines)
        self._size += written
        return written

    def isReady(self, seconds: float) -> bool:
        return not self._isFile and _isReady(self._descriptor, seconds)

    def reopen(self) -> None:
        """
        See L{Output.reopen}. If it cannot be opened, the lines go on where
        they went.
        """
        with suppress(OSError):
            self._open()

    def _open(self) -> None:
        descriptor = os.open(self._path, _FLAGS | os.O_APPEND | os.O_CREAT, self._mode)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._isFile = stat.S_ISREG(status.st_mode)
        self._size = status.st_size

    def _rotate(self) -> None:
        with suppress(OSError):
            # It may have been put aside by somebody else.
            if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
                for number in range(self._kept - 1, 0, -1):
                    with suppress(FileNotFoundError):
                        os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
                os.replace(self._path, f"{self._path}.1")
        self.reopen()


def outputOf(
    path: str | None, largest: int = 0, kept: int = 1, mode: int = 0o666
) -> Callable[[], Output]:
    """
    Opens the log file, or the standard output for None.

    @param path: as seen from the folder of now.
    @param largest: see L{RotatedFile}.
    @param kept: see L{RotatedFile}.
    @param mode: see L{RotatedFile}.
    """
    if path is None:
        return StandardOutput
    absolute = os.path.abspath(path)
    return lambda: RotatedFile(absolute, largest, kept, mode)


def _opened(descriptor: int) -> int:
    """
    Return another descriptor for the same pipe, terminal or device, which does
    not block.
    """
    try:
        # Opened by its name, it has flags of its own; else the shell that
        # shares the terminal would find it not to block.
        another = os.open(f"/dev/fd/{descriptor}", _FLAGS)
    except OSError:
        # A socket, such as that of systemd's journal, has no name.
        another = os.dup(descriptor)
    os.set_blocking(another, False)
    return another


def _isReady(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    events = poll.poll(max(seconds, 0) * 1000)
    # Without a reader it would be said to be ready at once.
    return [event for _, event in events] == [select.POLLOUT]


def _writeWhole(descriptor: int, lines: bytes) -> int:
    """
    Write to a regular file, and leave no piece of a line in it when there is no
    room for all.

    @return: the bytes of the lines that were written.
    """
    written = os.write(descriptor, lines)
    if written == len(lines):
        return written
    whole = lines.rfind(b"\n", 0, written) + 1
    with suppress(OSError):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - (written - whole))
        os.lseek(descriptor, 0, os.SEEK_END)
        return whole
    # The rest of the line comes when there is room again.
    return written

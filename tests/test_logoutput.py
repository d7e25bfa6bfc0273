"""
Tests for L{openai_server.logoutput}, with real files and pipes.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from pathlib import Path

from openai_server import logoutput
from openai_server.logoutput import RotatedFile, StandardOutput, outputOf
from tests.support import SyncCase

#: More than a pipe or a socket holds.
MUCH = b"x" * 4_000_000


class OutputCase(SyncCase):
    """
    A folder of its own, and descriptors that are closed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "x.log"

    def close(self, output: RotatedFile | StandardOutput) -> None:
        """
        Close it at the end.
        """
        self.addCleanup(lambda: os.close(output._descriptor))

    def file(self, largest: int = 0, kept: int = 3) -> RotatedFile:
        """
        A file at the usual path.
        """
        output = outputOf(str(self.path), largest, kept)()
        assert isinstance(output, RotatedFile)
        self.close(output)
        return output

    def content(self) -> dict[str, str]:
        """
        All files of the folder.
        """
        return {path.name: path.read_text() for path in self.folder.iterdir()}


class RotatedFileTests(OutputCase):
    """
    Files that are put aside.
    """

    def test_appended(self) -> None:
        """
        A file that is there goes on, at the path as it was when the log was
        asked for.
        """
        self.path.write_text("a\n")
        opening = outputOf(str(self.path))
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir("/")
        output = opening()
        assert isinstance(output, RotatedFile)
        self.close(output)
        os.chdir(here)
        self.assertEqual(output.write(b"b\n"), 2)
        self.assertEqual(self.content(), {"x.log": "a\nb\n"})

    def test_putAside(self) -> None:
        """
        V17: before it is too large, and so many are kept.
        """
        output = self.file(largest=10, kept=2)
        for letter in "abcdefg":
            output.write(b"%b12\n" % letter.encode())
        self.assertEqual(self.content(), {"x.log": "g12\n", "x.log.1": "e12\nf12\n", "x.log.2": "c12\nd12\n"})

    def test_neverPutAside(self) -> None:
        """
        That is left to somebody else.
        """
        output = self.file(largest=0)
        for _ in range(100):
            output.write(b"a" * 1000)
        self.assertEqual([*self.content()], ["x.log"])

    def test_linesLargerThanAFile(self) -> None:
        """
        Are written all the same, and no empty file is put aside.
        """
        output = self.file(largest=3)
        output.write(b"abcdef\n")
        self.assertEqual(self.content(), {"x.log": "abcdef\n"})

    def test_reopened(self) -> None:
        """
        V17: logrotate has moved the file.
        """
        output = self.file()
        output.write(b"a\n")
        self.path.rename(self.folder / "moved")
        output.write(b"b\n")
        output.reopen()
        output.write(b"c\n")
        self.assertEqual(self.content(), {"moved": "a\nb\n", "x.log": "c\n"})

    def test_movedAwayAndTooLarge(self) -> None:
        """
        A file that somebody else has put aside is not put aside again.
        """
        output = self.file(largest=10)
        output.write(b"a234567\n")
        self.path.rename(self.folder / "moved")
        output.write(b"b234567\n")
        self.assertEqual(self.content(), {"moved": "a234567\n", "x.log": "b234567\n"})

    def test_folderIsGone(self) -> None:
        """
        The lines go on where they went, and nothing is raised.
        """
        output = self.file(largest=4)
        output.write(b"abc\n")
        self.path.unlink()
        self.folder.rmdir()
        output.reopen()
        self.assertEqual(output.write(b"def\n"), 4)

    def test_descriptorsDoNotGrow(self) -> None:
        """
        Each file is closed when the next one is opened.
        """
        output = self.file(largest=1)
        before = len(os.listdir("/dev/fd"))
        for _ in range(20):
            output.write(b"a\n")
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_diskFillsUp(self) -> None:
        """
        V16: no piece of a line is left, and the line comes when there is room.
        """
        output = self.file()
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE))
        self.addCleanup(signal.signal, signal.SIGXFSZ, signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        self.assertEqual(output.write(b"abc\ndef\nghijkl\n"), 8)
        self.assertEqual(output.write(b"ghijkl\n"), 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (11, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        self.assertEqual(output.write(b"gh\nij\n"), 3)
        self.assertRaises(OSError, output.write, b"ij\n")
        self.assertEqual(self.content(), {"x.log": "abc\ndef\ngh\n"})

    def test_pieceThatStays(self) -> None:
        """
        Where a file cannot be cut, its caller is told of the piece.
        """

        def refuse(descriptor: int, size: int) -> None:
            raise OSError(errno.EPERM, "append only")

        self.patch(logoutput.os, "ftruncate", refuse)
        self.patch(logoutput.os, "write", lambda descriptor, data: 6)
        self.assertEqual(self.file().write(b"abc\ndef\n"), 6)

    def test_FIFO(self) -> None:
        """
        Is never put aside, and never waited for.
        """
        os.mkfifo(self.path)
        self.assertRaises(OSError, self.file)
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        output = self.file(largest=1)
        self.assertLess(output.write(MUCH), len(MUCH))
        self.assertRaises(BlockingIOError, output.write, MUCH)
        self.assertFalse(output.isReady(0))
        os.read(reader, 1 << 20)
        self.assertTrue(output.isReady(1))
        self.assertEqual([path.name for path in self.folder.iterdir()], ["x.log"])


class StandardOutputTests(OutputCase):
    """
    The standard output, whatever it is.
    """

    def standard(self, descriptor: int) -> StandardOutput:
        """
        The output of a process whose standard output this is.
        """
        self.patch(logoutput, "_STANDARD", descriptor)
        output = outputOf(None)()
        assert isinstance(output, StandardOutput)
        self.close(output)
        output.reopen()
        return output

    def test_pipe(self) -> None:
        """
        V16: nobody is waited for, and whoever shares the pipe finds it as it was.
        """
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        output = self.standard(writer)
        self.assertLess(output.write(MUCH), len(MUCH))
        self.assertRaises(BlockingIOError, output.write, MUCH)
        self.assertFalse(output.isReady(0))
        self.assertTrue(os.get_blocking(writer))
        os.close(reader)
        self.assertRaises(BrokenPipeError, output.write, b"a\n")
        self.assertFalse(output.isReady(1))

    def test_socket(self) -> None:
        """
        The same for the one of systemd's journal.
        """
        reader, writer = socket.socketpair()
        self.addCleanup(writer.close)
        self.addCleanup(reader.close)
        output = self.standard(writer.fileno())
        self.assertLess(output.write(MUCH), len(MUCH))
        self.assertRaises(BlockingIOError, output.write, MUCH)

    def test_file(self) -> None:
        """
        Its place in the file is shared with what else goes there.
        """
        with open(self.path, "wb", buffering=0) as shared:
            output = self.standard(shared.fileno())
            shared.write(b"a\n")
            output.write(b"b\n")
            shared.write(b"c\n")
        self.assertFalse(output.isReady(0))
        self.assertEqual(self.content(), {"x.log": "a\nb\nc\n"})

    def test_none(self) -> None:
        """
        A process may have none.
        """
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        self.patch(logoutput, "_STANDARD", writer)
        self.assertRaises(OSError, outputOf(None))

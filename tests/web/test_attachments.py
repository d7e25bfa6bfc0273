"""
Tests for L{openai_server.web.attachments}.
"""

from __future__ import annotations

import os
import stat
from base64 import b64encode
from pathlib import Path
from shutil import rmtree
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from openai_server.errors import APIError
from openai_server.translate import attachments
from openai_server.translate.attachments import SLICE, Attached
from openai_server.web.attachments import AttachmentFolder, Stored
from tests.support import SyncCase, TestClock
from tests.test_runtime import deadProcess


def image(data: str, mediaType: str = "image/png") -> Attached:
    """
    An image in a request.
    """
    return Attached("image", mediaType, data=data, param="messages[0].content[1]")


class AttachmentCase(SyncCase):
    """
    A test with a folder of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.root = Path(self.mktemp())
        self.root.mkdir()
        self.folder = AttachmentFolder(self.clock, self.root, totalBytes=2_000_000)
        self.addCleanup(self.folder.stop)

    def writing(self, data: str, mediaType: str = "image/png") -> Deferred[Stored]:
        """
        Begin to write.
        """
        return Deferred.fromCoroutine(self.folder.write(image(data, mediaType)))

    def write(self, data: str, mediaType: str = "image/png") -> Stored:
        """
        Write to the end.
        """
        done = self.writing(data, mediaType)
        while not done.called:
            self.clock.advance(0)
        return self.successResultOf(done)

    def files(self) -> list[Path]:
        """
        All files on disk.
        """
        return [path for path in self.root.rglob("*") if path.is_file()]


class WriteTests(AttachmentCase):
    """
    Attachments become files.
    """

    def test_isPrivate(self) -> None:
        """
        The folder is 0700 and named by process and chance; the file is 0600,
        and its name says only what it is.
        """
        mask = os.umask(0)
        self.addCleanup(os.umask, mask)
        stored = self.write(b64encode(b"\x89PNG...").decode())
        self.assertEqual((stored.path.read_bytes(), stored.size), (b"\x89PNG...", 7))
        self.assertEqual(stat.S_IMODE(stored.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(stored.path.parent.stat().st_mode), 0o700)
        self.assertRegex(stored.path.parent.name, rf"\Aopenai-server-{os.getpid()}-[0-9a-f]{{16}}\Z")
        self.assertRegex(stored.path.name, r"\A[0-9a-f]{16}\.png\Z")

    def test_extensions(self) -> None:
        """
        A known type gives the extension, anything else none of its own words.
        """
        for mediaType, extension in (
            ("image/jpeg", ".jpg"),
            ("application/pdf", ".pdf"),
            ("audio/wav", ".wav"),
            ("text/plain", ".txt"),
            ("../../etc/passwd", ".bin"),
            ("image/../../x", ".bin"),
            ("", ".bin"),
        ):
            self.assertEqual(self.write("YQ==", mediaType).path.suffix, extension)

    def test_slices(self) -> None:
        """
        A large file is written with the reactor in between.
        """
        turns: list[float] = []
        original = self.clock.callLater
        self.patch(self.clock, "callLater", lambda *args: turns.append(args[0]) or original(*args))
        data = os.urandom(SLICE * 2)
        done = self.writing(b64encode(data).decode())
        self.assertNoResult(done)
        self.assertEqual(self.files()[0].stat().st_size, SLICE * 3 // 4)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(done).path.read_bytes(), data)
        self.assertEqual(turns, [0, 0])

    @settings(deadline=None, max_examples=40)
    @given(st.binary(min_size=1, max_size=400))
    def test_anyBase64(self, data: bytes) -> None:
        """
        Whatever is put in is in the file, wherever slices are cut.
        """
        with mock.patch.object(attachments, "SLICE", 12):
            stored = self.write(b64encode(data).decode())
        self.assertEqual((stored.path.read_bytes(), stored.size), (data, len(data)))
        stored.release()

    def test_badBase64(self) -> None:
        """
        U29: what is not base64 is 400 with the field's path, and leaves no
        file and no account of itself.
        """
        good = b64encode(b"a" * SLICE).decode()
        for data in ("?", "Y", "YQ==YQ==", "YWJj" + "é", good + "?", good[:1000] + "=" + good[1001:]):
            for done in (self.writing(data), Deferred.fromCoroutine(self.folder.check(image(data)))):
                self.clock.advance(0)
                error = self.failureResultOf(done, APIError).value
                self.assertEqual((error.name, error.param), ("invalid_value", "messages[0].content[1]"))
        self.assertEqual((self.files(), self.folder.usedBytes), ([], 0))

    def test_checkedWithoutAFile(self) -> None:
        """
        Data that goes out in the prompt alone is checked as slowly.
        """
        checking = Deferred.fromCoroutine(self.folder.check(image("YWJj" * (SLICE // 2))))
        self.assertNoResult(checking)
        self.clock.advance(0)
        self.successResultOf(checking)
        self.assertEqual(list(self.root.iterdir()), [])

    def test_total(self) -> None:
        """
        All files together have a cap; a released file makes room.
        """
        data = b64encode(bytes(900_000)).decode()
        first = self.write(data)
        self.write(data)
        error = self.failureResultOf(self.writing(data), APIError).value
        self.assertEqual((error.kind.status, error.retryAfter), (429, 10))
        first.release()
        self.write(data)

    def test_filesInTheMakingCount(self) -> None:
        """
        The cap holds for files that are written at the same time.
        """
        data = b64encode(bytes(900_000)).decode()
        writing = [self.writing(data) for _ in range(3)]
        self.failureResultOf(writing[2], APIError)
        for done in writing[:2]:
            while not done.called:
                self.clock.advance(0)

    def test_cancelled(self) -> None:
        """
        A client that leaves while its file is written leaves no file.
        """
        done = self.writing(b64encode(bytes(SLICE * 2)).decode())
        self.assertEqual(len(self.files()), 1)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual((self.files(), self.folder.usedBytes, self.clock.getDelayedCalls()), ([], 0, []))

    def test_diskWontHaveIt(self) -> None:
        """
        V1: an error of the disk is a matter of room to the client, and said
        in the log without the content.
        """
        folder = AttachmentFolder(self.clock, self.root / "missing")
        done = Deferred.fromCoroutine(folder.write(image("YQ==")))
        self.assertEqual(self.failureResultOf(done, APIError).value.kind.status, 429)
        self.assertEqual(folder.usedBytes, 0)


class RemovalTests(AttachmentCase):
    """
    Nothing stays.
    """

    def test_release(self) -> None:
        """
        A released file is gone; releasing twice, or a file that somebody else
        has removed, does nothing.
        """
        stored, other = self.write("YQ=="), self.write("YWI=")
        stored.release()
        stored.release()
        self.assertEqual((self.files(), self.folder.usedBytes), ([other.path], 2))
        other.path.unlink()
        other.release()
        self.assertEqual(self.folder.usedBytes, 0)

    def test_stop(self) -> None:
        """
        At the end the folder is gone; what is released later does no harm.
        """
        stored = self.write("YQ==")
        self.folder.stop()
        self.assertEqual(list(self.root.iterdir()), [])
        stored.release()
        self.assertEqual(self.folder.usedBytes, 0)

    def test_startRemovesWhatTheDeadLeft(self) -> None:
        """
        As L{openai_server.runtime} does it.
        """
        left = self.root / f"openai-server-{deadProcess()}-{'0' * 16}"
        left.mkdir()
        self.folder.start()
        self.assertFalse(left.exists())

    def test_folderVanishes(self) -> None:
        """
        Somebody tidies up while this runs: the next file gets a new folder.
        """
        first = self.write("YQ==")
        rmtree(first.path.parent)
        second = self.write("YWI=")
        self.assertEqual(self.files(), [second.path])
        self.assertNotEqual(first.path.parent, second.path.parent)
        first.release()
        self.folder.stop()
        self.assertEqual(list(self.root.iterdir()), [])

"""
Tests for L{openai_server.web.workfolder}.
"""

from __future__ import annotations

import os
from pathlib import Path

from openai_server.errors import APIError
from openai_server.web.workfolder import workFolder
from tests.support import SyncCase


class WorkFolderTests(SyncCase):
    """
    C35: folders on disk.
    """

    def setUp(self) -> None:
        super().setUp()
        self.top = Path(os.path.realpath(self.mktemp()))
        self.root, self.outside = self.top / "root", self.top / "outside"
        for folder in (self.root / "a" / "b", self.outside, self.top / "root-2"):
            folder.mkdir(parents=True)

    def folder(self, asked: object, *roots: object) -> str:
        """
        The folder that is given for one that was asked for.
        """
        return workFolder(str(asked), [*map(str, roots or (self.root,))])

    def refused(self, asked: object, *roots: object) -> None:
        """
        It is not allowed.
        """
        error = self.assertRaises(APIError, self.folder, asked, *roots)
        self.assertEqual((error.kind.status, error.kind.code), (403, "cwd_not_allowed"), asked)

    def test_below(self) -> None:
        """
        A root itself, and what is below it, however it is spelled.
        """
        for asked in ("", "/", "/a/..", "/./"):
            self.assertEqual(self.folder(f"{self.root}{asked}"), str(self.root))
        self.assertEqual(self.folder(self.root / "a/b"), str(self.root / "a/b"))
        self.assertEqual(self.folder(self.outside, self.root, self.outside), str(self.outside))
        self.assertEqual(self.folder(self.outside, "/"), str(self.outside))

    def test_outside(self) -> None:
        """
        Also where a name begins in the same way, or leads out again.
        """
        for asked in (
            self.outside,
            self.top,
            self.top / "root-2",
            self.root / "../outside",
            self.root / "a/../../outside",
            "/",
        ):
            self.refused(asked)

    def test_links(self) -> None:
        """
        They are followed, and what they lead to counts; a root may be one.
        """
        (self.root / "out").symlink_to(self.outside)
        (self.outside / "in").symlink_to(self.root / "a")
        (self.top / "link").symlink_to(self.root)
        self.refused(self.root / "out")
        self.refused(self.root / "out/..")
        self.assertEqual(self.folder(self.outside / "in"), str(self.root / "a"))
        self.assertEqual(self.folder(self.root / "a", self.top / "link"), str(self.root / "a"))

    def test_noFolder(self) -> None:
        """
        What is not there, is a file, or cannot be a path.
        """
        (self.root / "file").touch()
        (self.root / "loop").symlink_to(self.root / "loop")
        unwritable = os.fsdecode(b"\xff")
        (self.root / unwritable).mkdir()
        for asked in ("missing", "file", "loop", "a\0b", "x" * 5000, unwritable):
            self.refused(f"{self.root}/{asked}")

    def test_relative(self) -> None:
        """
        There is no telling where that would be.
        """
        for asked in ("", ".", "a", "~"):
            self.refused(asked, "/")

    def test_noRoots(self) -> None:
        """
        Then nothing is allowed.
        """
        self.assertRaises(APIError, workFolder, str(self.root), [])

"""
Tests for L{openai_server.runtime}.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

from openai_server.runtime import makeFolder, removeLeftBehind, runtimeDirectory
from tests.support import SyncCase


def deadProcess() -> int:
    """
    The id of a process that has ended.
    """
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    return dead.pid


class RuntimeDirectoryTests(SyncCase):
    """
    Where folders are made.
    """

    def test_environment(self) -> None:
        """
        V12: the runtime directory if it is told, absolute and ours to write
        to, else the one for temporary files.
        """
        here = Path(self.mktemp()).absolute()
        here.mkdir()
        self.assertEqual(runtimeDirectory({"XDG_RUNTIME_DIR": str(here)}), here)
        for environ in ({}, *({"XDG_RUNTIME_DIR": given} for given in ("", ".", "/nowhere"))):
            self.assertEqual(runtimeDirectory(environ), Path(gettempdir()))


class FolderTests(SyncCase):
    """
    Folders, and what becomes of them.
    """

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.mktemp())
        self.root.mkdir()

    def test_made(self) -> None:
        """
        It is this user's alone, whatever the mask, and named by process and
        chance.
        """
        mask = os.umask(0)
        self.addCleanup(os.umask, mask)
        first, second = makeFolder(self.root), makeFolder(self.root)
        self.assertEqual(stat.S_IMODE(first.stat().st_mode), 0o700)
        self.assertRegex(first.name, rf"\Aopenai-server-{os.getpid()}-[0-9a-f]{{16}}\Z")
        self.assertNotEqual(first, second)

    def test_whatTheDeadLeftIsRemoved(self) -> None:
        """
        Folders of dead processes go; those of living ones stay, and so does
        everything that is no such folder.
        """
        dead = deadProcess()
        living = self.root / f"openai-server-{os.getppid()}-{'0' * 16}"
        left = self.root / f"openai-server-{dead}-{'0' * 16}"
        others = [
            self.root / f"openai-server-{dead}",
            self.root / f"openai-server-{dead}-x",
            self.root / f"other-{dead}-{'0' * 16}",
            self.root / f"openai-server-{dead}-{'1' * 16}x",
        ]
        for path in (living, left, *others):
            path.mkdir()
            (path / "secret.png").touch()
        link = self.root / f"openai-server-{dead}-{'2' * 16}"
        link.symlink_to(living)
        removeLeftBehind(self.root)
        self.assertEqual(set(self.root.iterdir()), {living, link, *others})
        self.assertTrue(all((path / "secret.png").exists() for path in (living, *others)))

    def test_foldersOfOtherUsersStay(self) -> None:
        """
        Their processes are not ours to judge.
        """
        left = self.root / f"openai-server-{deadProcess()}-{'0' * 16}"
        left.mkdir()
        self.patch(os, "getuid", lambda: left.stat().st_uid + 1)
        removeLeftBehind(self.root)
        self.assertTrue(left.exists())

    def test_rootIsMissing(self) -> None:
        """
        Then there is nothing to remove.
        """
        removeLeftBehind(self.root / "missing")

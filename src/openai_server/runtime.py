# -*- test-case-name: tests.test_runtime -*-
"""
Private folders for what must not outlive this process.

A process that is killed leaves its folders behind. Their names say whose they
are, so that the next one can remove them.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"openai-server-(\d+)-[0-9a-f]{16}")


def runtimeDirectory(environ: Mapping[str, str]) -> Path:
    """
    Where such folders are made: C{XDG_RUNTIME_DIR} when it is absolute and can
    be written to, else the directory for temporary files.
    """
    given = environ.get("XDG_RUNTIME_DIR", "")
    isUsable = os.path.isabs(given) and os.access(given, os.W_OK | os.X_OK)
    return Path(given if isUsable else tempfile.gettempdir())


def makeFolder(root: Path) -> Path:
    """
    Make a folder for this process and this user alone.

    @raise OSError: there is no such root, or no room.
    """
    path = root / f"openai-server-{os.getpid()}-{secrets.token_hex(8)}"
    path.mkdir(mode=0o700)
    return path


def removeLeftBehind(root: Path) -> None:
    """
    Remove this user's folders whose processes are dead. What cannot be removed
    stays.
    """
    with suppress(OSError):
        for entry in list(os.scandir(root)):
            if _isLeftBehind(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _isLeftBehind(entry: os.DirEntry[str]) -> bool:
    named = _NAME.fullmatch(entry.name)
    if named is None or not entry.is_dir(follow_symlinks=False):
        return False
    # Two processes that start at once find the same folders.
    with suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_uid == os.getuid() and not _isAlive(int(named[1]))
    return False


def _isAlive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

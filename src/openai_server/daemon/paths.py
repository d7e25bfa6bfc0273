# -*- test-case-name: tests.daemon.test_paths -*-
"""
Where the daemon's socket and its registry file are, and whether a socket may
be trusted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

#: Looks at a file, following links, as C{os.stat} does.
Stat: TypeAlias = Callable[[str], os.stat_result]

#: Bytes of a socket's path that fit into the kernel's address (Linux: 108 with the NUL).
LONGEST_PATH: Final = 107


def socketPath(environ: Mapping[str, str], uid: int, look: Stat = os.stat) -> str:
    """
    The path of the daemon's socket: what the environment names, else the
    first of the usual places whose socket is this user's or root's, else the
    place under C{/run/user}.
    """
    for name in ("HUM_THRUM_SOCK", "HUM_SOCKET"):
        if environ.get(name):
            return environ[name]
    if environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(environ["XDG_RUNTIME_DIR"], "hum", "thrum.sock")
    usual = f"/run/user/{uid}/hum/thrum.sock"
    for path in (usual, f"/tmp/hum-{uid}/hum/thrum.sock", "/tmp/hum/thrum.sock"):
        if _owner(path, look) in (uid, 0):
            return path
    return usual


def registryPath(environ: Mapping[str, str]) -> str:
    """
    The path of the daemon's registry file.
    """
    state = environ.get("XDG_STATE_HOME")
    if not state:
        state = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "hum", "bees.json")


def socketProblem(path: str, uid: int, look: Stat = os.stat) -> str | None:
    """
    Why a connection to this path is not even tried, or None.

    Anyone may create files under C{/tmp}: there the socket has to be this
    user's or root's.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        return f"the socket's path is longer than {LONGEST_PATH} bytes: {path}"
    try:
        found = look(path)
    except FileNotFoundError:
        return f"the socket is missing: {path}"
    except OSError as error:
        return f"the socket cannot be looked at: {path}: {error.strerror}"
    if not stat.S_ISSOCK(found.st_mode):
        return f"this is not a socket: {path}"
    if os.path.normpath(path).startswith("/tmp/") and found.st_uid not in (uid, 0):
        return f"the socket belongs to another user: {path}"
    return None


def _owner(path: str, look: Stat) -> int | None:
    try:
        return look(path).st_uid
    except OSError:
        return None

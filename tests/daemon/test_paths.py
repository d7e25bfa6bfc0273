"""
Tests for L{openai_server.daemon.paths}.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from openai_server.daemon.paths import LONGEST_PATH, registryPath, socketPath, socketProblem
from tests.support import SyncCase

RUN = "/run/user/7/hum/thrum.sock"
OWN = "/tmp/hum-7/hum/thrum.sock"
SHARED = "/tmp/hum/thrum.sock"


def disk(mode: int = stat.S_IFSOCK, **owners: int) -> Callable[[str], os.stat_result]:
    """
    A stat function for a disk on which these of the usual paths exist.
    """
    found = {{"run": RUN, "own": OWN, "shared": SHARED}[name]: uid for name, uid in owners.items()}

    def look(path: str) -> os.stat_result:
        if path not in found:
            raise FileNotFoundError(2, "No such file or directory", path)
        return os.stat_result((mode, 0, 0, 1, found[path], 0, 0, 0, 0, 0))

    return look


class SocketPathTests(SyncCase):
    """
    Where the daemon's socket is looked for.
    """

    def test_environment(self) -> None:
        """
        (V12) The first variable that is set and not empty wins.
        """
        every = {"HUM_THRUM_SOCK": "/a", "HUM_SOCKET": "/b", "XDG_RUNTIME_DIR": "/c"}
        self.assertEqual(socketPath(every, 7, disk()), "/a")
        self.assertEqual(socketPath({**every, "HUM_THRUM_SOCK": ""}, 7, disk()), "/b")
        self.assertEqual(socketPath({"XDG_RUNTIME_DIR": "/c"}, 7, disk(run=7)), "/c/hum/thrum.sock")

    def test_usualPlaces(self) -> None:
        """
        (S3) (V12) The first that is there and this user's or root's; another
        user's is passed over; with none, the one under C{/run/user}.
        """
        for look, path in [
            (disk(), RUN),
            (disk(run=7, own=7), RUN),
            (disk(own=7, shared=0), OWN),
            (disk(own=8, shared=0), SHARED),
            (disk(own=8, shared=8), RUN),
            (disk(run=0, own=7), RUN),
        ]:
            self.assertEqual(socketPath({"XDG_RUNTIME_DIR": ""}, 7, look), path)


class SocketProblemTests(SyncCase):
    """
    (S2) (S3) Sockets that are not connected to.
    """

    def test_good(self) -> None:
        """
        This user's and root's sockets, and anybody's outside C{/tmp}.
        """
        for path, look in [(OWN, disk(own=7)), (SHARED, disk(shared=0)), (RUN, disk(run=8))]:
            self.assertIsNone(socketProblem(path, 7, look))

    def test_missing(self) -> None:
        """
        (S1) No such file.
        """
        self.assertEqual(socketProblem(RUN, 7, disk()), f"the socket is missing: {RUN}")

    def test_noSocket(self) -> None:
        """
        (S2) A regular file, a directory.
        """
        for mode in (stat.S_IFREG, stat.S_IFDIR):
            self.assertEqual(socketProblem(RUN, 7, disk(mode, run=7)), f"this is not a socket: {RUN}")

    def test_cannotBeLookedAt(self) -> None:
        """
        (S2) A folder that may not be entered.
        """

        def look(path: str) -> os.stat_result:
            raise PermissionError(13, "Permission denied", path)

        self.assertEqual(
            socketProblem(RUN, 7, look), f"the socket cannot be looked at: {RUN}: Permission denied"
        )

    def test_foreignOwner(self) -> None:
        """
        (S3) Under C{/tmp} another user's socket is refused, however the path is written.
        """
        self.assertEqual(socketProblem(OWN, 7, disk(own=8)), f"the socket belongs to another user: {OWN}")
        odd = "/run/../tmp/x"
        look = lambda path: os.stat_result((stat.S_IFSOCK, 0, 0, 1, 8, 0, 0, 0, 0, 0))  # noqa: E731
        self.assertEqual(socketProblem(odd, 7, look), f"the socket belongs to another user: {odd}")

    def test_tooLong(self) -> None:
        """
        (S3) More bytes than fit into the kernel's address; letters may take several.
        """
        for path in ("/" + "x" * LONGEST_PATH, "/" + "é" * 54):
            self.assertIn("longer than 107 bytes", str(socketProblem(path, 7, disk())))
        self.assertIn("missing", str(socketProblem("/" + "x" * (LONGEST_PATH - 1), 7, disk())))


class RegistryPathTests(SyncCase):
    """
    Where the registry file is.
    """

    def test_order(self) -> None:
        """
        The state folder, else the usual one in the home, else the system's home.
        """
        self.assertEqual(registryPath({"XDG_STATE_HOME": "/s", "HOME": "/h"}), "/s/hum/bees.json")
        self.assertEqual(registryPath({"HOME": "/h", "XDG_STATE_HOME": ""}), "/h/.local/state/hum/bees.json")
        self.assertEqual(registryPath({}), os.path.expanduser("~/.local/state/hum/bees.json"))

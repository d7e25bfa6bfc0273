"""
Tests for L{openai_server.identity}.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from stat import S_IMODE

from openai_server import identity
from openai_server.identity import MOST_KEYS, HeldKey, IdentityError, NoKeyFile, hidFromSeed, holdKey, newSeed
from tests.support import SyncCase

SEED = bytes(range(32))


def seedFromFile(path: str) -> bytes:
    """
    Return the key at a path, as a process finds it that runs alone.
    """
    key = holdKey(path)
    key.release()
    return key.seed


class HidTests(SyncCase):
    """
    The name that a seed gives.
    """

    def test_rfc8032Vector(self) -> None:
        """
        The key pair of RFC 8032, section 7.1, test 1.
        """
        seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
        public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        self.assertEqual(hidFromSeed(seed), "fbee_" + sha256(public).hexdigest())

    def test_pinnedVector(self) -> None:
        """
        The hid of a seed never changes: daemons know this bee by it.
        """
        self.assertEqual(
            hidFromSeed(SEED), "fbee_56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
        )

    def test_newSeedsDiffer(self) -> None:
        """
        Each is its own, of 32 bytes.
        """
        self.assertEqual(len({newSeed() for _ in range(10)}), 10)
        self.assertEqual(len(newSeed()), 32)


class KeyFileTests(SyncCase):
    """
    (V3) The key file is the user's alone, and is never overwritten.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "openai-server.key"

    def write(self, content: bytes = SEED, mode: int = 0o600) -> None:
        """
        Put a key file there.
        """
        self.path.write_bytes(content)
        self.path.chmod(mode)

    def refusal(self) -> str:
        """
        Why the file at the path is not used; what is there stays.
        """
        before = sorted((entry.name, entry.lstat().st_mtime_ns) for entry in self.folder.iterdir())
        error = self.assertRaises(IdentityError, seedFromFile, str(self.path))
        after = sorted((entry.name, entry.lstat().st_mtime_ns) for entry in self.folder.iterdir())
        self.assertEqual(before, after)
        prefix = f"key file {self.path}: "
        self.assertTrue(str(error).startswith(prefix), str(error))
        return str(error).removeprefix(prefix)

    def test_read(self) -> None:
        """
        The raw bytes are the seed.
        """
        self.write()
        self.assertEqual(seedFromFile(str(self.path)), SEED)

    def test_readOnlyFileIsFine(self) -> None:
        """
        Nothing is ever written to it.
        """
        self.write(mode=0o400)
        self.assertEqual(seedFromFile(str(self.path)), SEED)

    def test_created(self) -> None:
        """
        With its folders, for the user alone whatever the umask, and the same
        at the next start; nothing else is left behind.
        """
        self.path = self.folder / "a" / "b" / "openai-server.key"
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        seed = seedFromFile(str(self.path))
        self.assertEqual(self.path.read_bytes(), seed)
        self.assertEqual(S_IMODE(self.path.stat().st_mode), 0o600)
        for folder in (self.path.parent, self.path.parent.parent):
            self.assertEqual(S_IMODE(folder.stat().st_mode), 0o700)
        self.assertEqual([entry.name for entry in self.path.parent.iterdir()], ["openai-server.key"])
        self.assertEqual(seedFromFile(str(self.path)), seed)

    def test_neverReadableByOthersWhileCreated(self) -> None:
        """
        The mode is there from the first moment on.
        """
        modes: list[int] = []
        link = os.link

        def look(source: str, target: str) -> None:
            modes.append(S_IMODE(os.stat(source).st_mode))
            link(source, target)

        self.patch(os, "link", look)
        self.patch(os, "fsync", lambda descriptor: modes.append(S_IMODE(os.fstat(descriptor).st_mode)))
        seedFromFile(str(self.path))
        self.assertEqual(modes, [0o600, 0o600])

    def test_fileThatAppearsMeanwhileWins(self) -> None:
        """
        Two servers that start at once get the same key.
        """
        write = identity._writePrivately

        def interfere(path: str, content: bytes) -> None:
            write(path, content)
            self.write()

        self.patch(identity, "_writePrivately", interfere)
        self.assertEqual(seedFromFile(str(self.path)), SEED)
        self.assertEqual(self.path.read_bytes(), SEED)
        self.assertEqual([entry.name for entry in self.folder.iterdir()], ["openai-server.key"])

    def test_wrongLength(self) -> None:
        """
        Half a key, a key too long, an empty file.
        """
        for length in (0, 1, 31, 33, 64):
            self.write(b"k" * length)
            self.assertEqual(self.refusal(), f"holds {length} bytes, not the 32 of a key")

    def test_openToOthers(self) -> None:
        """
        Any right of group or world is one too many.
        """
        for mode in (0o644, 0o640, 0o604, 0o620, 0o602, 0o660):
            self.write(mode=mode)
            self.assertEqual(self.refusal(), f"others may use it (mode {mode:04o}); chmod 600 it")

    def test_symbolicLink(self) -> None:
        """
        To a good key, and to nothing: then nothing is created through it.
        """
        other = self.folder / "other"
        self.path.symlink_to(other)
        self.assertEqual(self.refusal(), "is a symbolic link")
        self.assertFalse(other.exists())
        other.write_bytes(SEED)
        other.chmod(0o600)
        self.assertEqual(self.refusal(), "is a symbolic link")

    def test_folder(self) -> None:
        """
        A folder in its place.
        """
        self.path.mkdir(mode=0o700)
        self.assertEqual(self.refusal(), "is not a regular file")

    def test_pipe(self) -> None:
        """
        A pipe is refused at once, instead of read from for ever.
        """
        os.mkfifo(self.path, 0o600)
        self.assertEqual(self.refusal(), "is not a regular file")

    def test_foreignOwner(self) -> None:
        """
        Somebody else's file.
        """
        self.write()
        user = os.geteuid()
        self.patch(os, "geteuid", lambda: user + 1)
        self.assertEqual(self.refusal(), f"belongs to user {user}, not to user {user + 1}")

    def test_folderThatCannotBeWritten(self) -> None:
        """
        A read-only state folder, a file in place of the folder.
        """
        blocked = self.folder / "blocked"
        blocked.write_text("")
        self.path = blocked / "openai-server.key"
        error = self.assertRaises(NoKeyFile, seedFromFile, str(self.path))
        self.assertEqual(str(error), f"key file {self.path}: Not a directory")

    def test_fullDiskLeavesNothing(self) -> None:
        """
        No half-written key, and no draft of one.
        """

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        error = self.assertRaises(IdentityError, seedFromFile, str(self.path))
        self.assertEqual(str(error), f"key file {self.path}: No space left on device")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_leftDraftsDoNoHarm(self) -> None:
        """
        A process that was killed while it wrote leaves a draft at most.
        """
        (self.folder / ".openai-server.key.0123456789abcdef").write_bytes(b"half")
        self.assertEqual(len(seedFromFile(str(self.path))), 32)


class HeldKeyTests(SyncCase):
    """
    (V40) Each process has a key of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.path = str(self.folder / "openai-server.key")

    def hold(self) -> HeldKey:
        """
        Start a process.
        """
        key = holdKey(self.path)
        self.addCleanup(key.release)
        return key

    def names(self) -> list[str]:
        """
        What is in the folder.
        """
        return sorted(entry.name for entry in self.folder.iterdir())

    def test_othersHaveTheNextOnes(self) -> None:
        """
        Those are made when they are missing, and another key each.
        """
        keys = [self.hold() for _ in range(3)]
        self.assertEqual(len({key.seed for key in keys}), 3)
        expected = ["openai-server.key", "openai-server-2.key", "openai-server-3.key"]
        self.assertEqual([Path(key.path).name for key in keys], expected)
        self.assertEqual(self.names(), sorted(expected))

    def test_theFirstFreeOneIsTaken(self) -> None:
        """
        A process that comes back has the name that it had.
        """
        first, second = holdKey(self.path), self.hold()
        first.release()
        self.assertEqual(self.hold().seed, first.seed)
        self.assertNotEqual(second.seed, first.seed)

    def test_theProcesssEndReleases(self) -> None:
        """
        However it ends; but not the end of a child that it has started.
        """
        code = (
            "import subprocess, sys; from openai_server.identity import holdKey;"
            "key = holdKey(sys.argv[1]);"
            "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL);"
            "print(child.pid, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            self.addCleanup(os.kill, int(process.stdout.readline()), signal.SIGKILL)
            self.assertEqual(Path(self.hold().path).name, "openai-server-2.key")
            process.kill()
            process.wait(60)
        self.assertEqual(Path(self.hold().path).name, "openai-server.key")

    def test_readOnlyFileIsHeldToo(self) -> None:
        """
        The lock needs no right to write.
        """
        self.folder.mkdir()
        Path(self.path).write_bytes(SEED)
        Path(self.path).chmod(0o400)
        self.assertEqual(self.hold().seed, SEED)
        self.assertNotEqual(self.hold().seed, SEED)

    def test_anyNameIsNumbered(self) -> None:
        """
        The number stands before the ending, if there is one.
        """
        self.path = str(self.folder / "the.d" / "key")
        self.assertEqual([Path(self.hold().path).name for _ in range(2)], ["key", "key-2"])

    def test_unfitOne(self) -> None:
        """
        It is named, and no later one is taken in its place.
        """
        self.hold()
        second = self.folder / "openai-server-2.key"
        second.write_bytes(b"short")
        second.chmod(0o600)
        error = self.assertRaises(IdentityError, holdKey, self.path)
        self.assertEqual(str(error), f"key file {second}: holds 5 bytes, not the 32 of a key")

    def test_systemWithoutLocks(self) -> None:
        """
        It is said.
        """

        def refuse(descriptor: int, how: int) -> None:
            raise OSError(37, "No locks available")

        self.patch(fcntl, "flock", refuse)
        error = self.assertRaises(IdentityError, holdKey, self.path)
        self.assertEqual(str(error), f"key file {self.path}: No locks available")

    def test_nothingStaysOpen(self) -> None:
        """
        Neither of the keys that are passed over, nor of one that is refused.
        """
        self.hold()
        before = len(os.listdir("/dev/fd"))
        for _ in range(3):
            holdKey(self.path).release()
        Path(self.path).chmod(0o644)
        self.assertRaises(IdentityError, holdKey, self.path)
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_bound(self) -> None:
        """
        So many processes are a mistake.
        """
        for _ in range(MOST_KEYS):
            self.hold()
        error = self.assertRaises(IdentityError, holdKey, self.path)
        self.assertEqual(
            str(error), f"key file {self.path}: {MOST_KEYS} processes hold it and those beside it"
        )
        self.assertEqual(len(self.names()), MOST_KEYS)

# -*- test-case-name: tests.test_identity -*-
"""
This bee's identity: an ed25519 seed in a file, and the hid that it gives.

The daemon knows a bee that comes back by its hid. The key file holds the raw
32 bytes of the seed, so that every implementation of a bee gets the same hid
from it (thrum's wire specification).

Two bees of the same hid would get each other's tones, so a process locks its
key's file, and another one that runs beside it has the next file.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import ExitStack, suppress
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SEED_BYTES: Final = 32
#: How many processes of one user may run beside each other.
MOST_KEYS: Final = 64


class IdentityError(Exception):
    """
    The key file cannot be used. The text is one line for the operator; the
    file was left as it is.
    """


class NoKeyFile(IdentityError):
    """
    There is no key file that is free, and none can be made.
    """


def hidFromSeed(seed: bytes) -> str:
    """
    The name by which daemons know the bee with this seed:
    C{fbee_} and the SHA-256 of its public key in hex.
    """
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return "fbee_" + sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def newSeed() -> bytes:
    """
    A seed that nobody has had before.
    """
    return secrets.token_bytes(_SEED_BYTES)


class HeldKey:
    """
    A key that no other process has while this object holds it.

    @ivar path: its file.
    @ivar seed: what is in it.
    """

    def __init__(self, path: str, seed: bytes, descriptor: int) -> None:
        """
        @param descriptor: of the locked file; from now on it is this object's.
        """
        self.path = path
        self.seed = seed
        self._descriptor = descriptor

    def release(self) -> None:
        """
        Let another process have it. The end of the process does the same.
        """
        os.close(self._descriptor)


def holdKey(path: str) -> HeldKey:
    """
    Return the first key that no other process holds: of C{bee.key},
    C{bee-2.key}, C{bee-3.key} and so on. One that is not there is made, with
    its folders; a file that is there is never written to.

    @param path: of the first one, absolute.
    @raise NoKeyFile: the next one is not there and cannot be made.
    @raise IdentityError: a file is no key of this user's alone, or cannot be
        read or locked; or all are held.
    """
    stem, ending = os.path.splitext(path)
    for number in range(1, MOST_KEYS + 1):
        candidate = path if number == 1 else f"{stem}-{number}{ending}"
        try:
            held = _hold(candidate)
        except OSError as error:
            raise IdentityError(f"key file {candidate}: {error.strerror}") from None
        if held is not None:
            return held
    raise IdentityError(f"key file {path}: {MOST_KEYS} processes hold it and those beside it")


def _hold(path: str) -> HeldKey | None:
    """
    Lock a key file and read it; None where another process has locked it.
    """
    if os.path.islink(path):
        raise IdentityError(f"key file {path}: is a symbolic link")
    try:
        descriptor = _open(path)
    except (FileNotFoundError, NotADirectoryError):
        try:
            _create(path)
        except OSError as error:
            raise NoKeyFile(f"key file {path}: {error.strerror}") from None
        descriptor = _open(path)
    with ExitStack() as onFailure:
        onFailure.callback(os.close, descriptor)
        reason = _whyUnfit(os.fstat(descriptor))
        if reason:
            raise IdentityError(f"key file {path}: {reason}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        held = HeldKey(path, os.read(descriptor, _SEED_BYTES), descriptor)
        onFailure.pop_all()
    return held


def _open(path: str) -> int:
    # Not blocking, or a pipe in its place would hold up the start for ever.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        # NFS locks only what can be written.
        return os.open(path, os.O_RDWR | flags)
    except OSError:
        return os.open(path, os.O_RDONLY | flags)


def keyProblem(path: str) -> str | None:
    """
    Return why a key file cannot be used; None when it can, or is not there yet.
    """
    try:
        return _whyUnfit(os.lstat(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)


def _whyUnfit(status: os.stat_result) -> str | None:
    """
    What is wrong with a key file, or None.
    """
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to user {os.geteuid()}"
    if status.st_mode & 0o077:
        return f"others may use it (mode {stat.S_IMODE(status.st_mode):04o}); chmod 600 it"
    if status.st_size != _SEED_BYTES:
        return f"holds {status.st_size} bytes, not the {_SEED_BYTES} of a key"
    return None


def _create(path: str) -> None:
    """
    Write a new seed next to its place and link it there, so that nobody ever
    sees half a key, and a file that appears meanwhile wins.
    """
    folder, name = os.path.split(path)
    _makeFolders(folder)
    draft = os.path.join(folder, f".{name}.{secrets.token_hex(8)}")
    try:
        _writePrivately(draft, newSeed())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def _makeFolders(folder: str) -> None:
    """
    C{os.makedirs}, but each folder that is made is the user's alone.
    """
    if not os.path.isdir(folder):
        _makeFolders(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _writePrivately(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)

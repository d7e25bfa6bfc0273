# -*- test-case-name: tests.test_identity -*-
"""
This bee's identity: an ed25519 seed in a file, and the hid that it gives.

The daemon knows a bee that comes back by its hid. The key file holds the raw
32 bytes of the seed, so that every implementation of a bee gets the same hid
from it (thrum's wire specification).
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SEED_BYTES: Final = 32


class IdentityError(Exception):
    """
    The key file cannot be used. The text is one line for the operator; the
    file was left as it is.
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


def seedFromFile(path: str) -> bytes:
    """
    The seed in this file, which is made, with its folders, when it is not
    there. A file that is there is never written to.

    @param path: absolute.
    @raise IdentityError: the file is no key of this user's alone, or cannot be
        read or made.
    """
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            return _create(path)
    except OSError as error:
        raise IdentityError(f"key file {path}: {error.strerror}") from None


def _read(path: str) -> bytes:
    if os.path.islink(path):
        raise IdentityError(f"key file {path}: is a symbolic link")
    # Not blocking, or a pipe in its place would hold up the start for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        reason = _whyUnfit(os.fstat(descriptor))
        if reason:
            raise IdentityError(f"key file {path}: {reason}")
        return os.read(descriptor, _SEED_BYTES)
    finally:
        os.close(descriptor)


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


def _create(path: str) -> bytes:
    """
    Write a new seed next to its place and link it there, so that nobody ever
    sees half a key, and a file that appears meanwhile wins.
    """
    folder, name = os.path.split(path)
    _makeFolders(folder)
    seed = newSeed()
    draft = os.path.join(folder, f".{name}.{secrets.token_hex(8)}")
    try:
        _writePrivately(draft, seed)
        os.link(draft, path)
    except FileExistsError:
        return _read(path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    return seed


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

# -*- test-case-name: tests.store.test_accounts -*-
"""
What is kept of accounts: their keys, and what they have used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred


class SavedKey(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    A key as it is kept: enough to know it again, and nothing to make it of.
    Limits are the account's, and the same in all its keys; None is none.

    @ivar digest: the SHA-256 of the key.
    @ivar name: what the operator calls it. One that was replaced has the name
        of its successor.
    @ivar shown: its first characters.
    @ivar models: the ids that may be asked for, with commas between them; None
        for all.
    @ivar rpm: requests a minute.
    @ivar tpm: tokens a minute.
    @ivar concurrent: requests at a time.
    @ivar createdAt: in seconds since 1970, as all times here.
    @ivar expiresAt: from when on it is good no longer.
    @ivar replacedUntil: until when a replaced key is still good; None for one
        that was not.
    """

    digest: bytes
    name: str
    shown: str
    account: str
    models: str | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrent: int | None = None
    tokensPerDay: int | None = None
    tokensPerMonth: int | None = None
    isAdmin: bool = False
    isDisabled: bool = False
    createdAt: float
    expiresAt: float | None = None
    replacedUntil: float | None = None


class KeyTable(msgspec.Struct, frozen=True):
    """
    All keys.

    @ivar version: another number after each change.
    """

    version: int
    keys: Sequence[SavedKey]


class AccountStore(Protocol):
    """
    Keeps keys, which a program of the operator's changes at any time; and how
    many tokens each account has used in each day and month, which are named as
    C{2026-01-31} and C{2026-01}.
    """

    @property
    def lasts(self) -> bool:
        """
        Whether there can be keys: they are kept for more than one process.
        """

    @property
    def isShared(self) -> bool:
        """
        Whether other processes may use tokens of the same accounts.
        """

    @property
    def atStart(self) -> KeyTable | None:
        """
        The keys as they were when the store was opened; None when they could
        not be read.
        """

    def version(self) -> Deferred[int | None]:
        """
        Return the version of all keys; None when it cannot be read for now.
        """

    def keys(self) -> Deferred[KeyTable | None]:
        """
        Return all keys; None when they cannot be read for now.
        """

    def use(self, account: str, periods: Sequence[str], tokens: int) -> None:
        """
        Add tokens to what an account has used in these days and months, a
        little later.
        """

    def used(self, account: str, periods: Sequence[str]) -> Deferred[Mapping[str, int] | None]:
        """
        Return what an account has used in these days and months, with all that
        was added before; None when it cannot be read for now.
        """

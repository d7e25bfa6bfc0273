# -*- test-case-name: tests.accounts.test_keyring -*-
"""
Whose a request is, and what it may ask.
"""

from __future__ import annotations

from typing import Final

import msgspec


class AccountLimits(msgspec.Struct, frozen=True, gc=False):
    """
    How much an account may have; None where there is no limit.

    @ivar rpm: requests in any minute.
    @ivar tpm: tokens in any minute.
    @ivar concurrent: requests at a time.
    @ivar tokensPerDay: tokens from midnight to midnight, in UTC.
    @ivar tokensPerMonth: tokens in a month, in UTC.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrent: int | None = None
    tokensPerDay: int | None = None
    tokensPerMonth: int | None = None


NO_LIMITS: Final = AccountLimits()


class Account(msgspec.Struct, frozen=True):
    """
    Whose a request is, as its key has it.

    @ivar name: under which things are kept, and which no two accounts have;
        no way back to a key.
    @ivar label: what people call it.
    @ivar models: those that may be asked for; None for all.
    @ivar isAdmin: whether it may see what others have used.
    """

    name: str
    label: str
    models: frozenset[str] | None = None
    limits: AccountLimits = NO_LIMITS
    isAdmin: bool = False

    def mayUse(self, model: str) -> bool:
        """
        Whether this model may be asked for.
        """
        return self.models is None or model in self.models

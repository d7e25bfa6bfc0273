# -*- test-case-name: tests.accounts.test_keyring -*-
"""
All keys that are let in, in memory: the one of the settings, and those of the
store.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from math import inf
from typing import Final

import msgspec

from openai_server.accounts.account import Account, AccountLimits
from openai_server.accounts.keys import DEFAULT, digestOf
from openai_server.errors import APIError
from openai_server.store.savedkeys import SavedKey

#: Whoever asks where no key is required, and may see all.
ANONYMOUS: Final = Account("anonymous", "anonymous", isAdmin=True)


class _HeldKey(msgspec.Struct, frozen=True):
    """
    @ivar until: when it is good no longer, in seconds since 1970.
    @ivar why: what its user is told then, or now, where it is disabled.
    @ivar saved: of which it was made; None for the key of the settings.
    """

    digest: bytes
    account: Account
    until: float = inf
    why: str = ""
    saved: SavedKey | None = None


#: In the place of a key that is none: no key has this digest.
_NONE: Final = _HeldKey(bytes(32), ANONYMOUS, -inf)


class KeyRing:
    """
    Tells whose a key is.

    @ivar isRequired: whether nobody is let in without a key. Once it is so it
        stays so: whoever removes the last key does not mean to let everybody in.
    @ivar accounts: whose keys there are, by what people call them.
    """

    def __init__(
        self, secret: bytes, now: Callable[[], float], apiKey: str | None = None, *, isRequired: bool = False
    ) -> None:
        """
        @param secret: the key of account names.
        @param now: the wall clock, in seconds since 1970.
        @param apiKey: that of the settings.
        """
        self.isRequired = isRequired
        self._secret = secret
        self._now = now
        self._stored: dict[bytes, _HeldKey] = {}
        self._own: dict[bytes, _HeldKey] = {}
        self._all: dict[bytes, _HeldKey] = {}
        self._byAccount: dict[int, _HeldKey] = {}
        self._labels: dict[str, str] = {}
        self.accounts: Mapping[str, Account] = {}
        if apiKey:
            self.changeKey(apiKey)

    def __len__(self) -> int:
        """
        Return how many keys there are.
        """
        return len(self._all)

    def changeKey(self, apiKey: str) -> None:
        """
        Let this key in as that of the settings, and no other.
        """
        digest = digestOf(apiKey.encode("utf-8"))
        held = self._own.get(digest) or _HeldKey(digest, settingsAccount(apiKey, self._secret))
        self._own = {digest: held}
        self._join()

    def replace(self, keys: Iterable[SavedKey]) -> None:
        """
        Let these keys in in place of all that were kept in the store.
        """
        known, self._stored = self._stored, {}
        for key in keys:
            # Most are as they were, and there may be thousands.
            held = known.get(key.digest)
            self._stored[key.digest] = held if held and held.saved == key else _heldFrom(key, held)
        self._join()

    def _join(self) -> None:
        self._all = {**self._stored, **self._own}
        # Each key has an account of its own, which is asked for again and again.
        self._byAccount = {id(held.account): held for held in self._all.values()}
        self._labels = {held.account.name: held.account.label for held in self._own.values()}
        self.accounts = {held.account.label: held.account for held in self._all.values()}
        self.isRequired = self.isRequired or bool(self._all)

    def accountOf(self, key: bytes) -> Account:
        """
        Return whose a key is; nobody's in particular where none is needed.

        A key is looked for by its digest: how long that takes depends on the
        digest alone, of which nobody can choose the bits without knowing a
        key with those; and every digest is compared with another one, whole.

        @param key: what a request brought, empty for none.
        @raise APIError: it is none, or good no longer.
        """
        if not self.isRequired:
            return ANONYMOUS
        digest = digestOf(key)
        held = self._all.get(digest, _NONE)
        isIt = hmac.compare_digest(digest, held.digest)
        if isIt and held.until > self._now():
            return held.account
        raise APIError(
            "invalid_api_key",
            (isIt and held.why) or "The API key is missing or wrong. Send it as 'Authorization: Bearer KEY'.",
            headers={"www-authenticate": "Bearer"},
        )

    def isHeld(self, account: Account) -> bool:
        """
        Whether the key for which L{accountOf} returned this account is good,
        and says the same of it; or none is needed for it.
        """
        if account is ANONYMOUS:
            return not self.isRequired
        held = self._byAccount.get(id(account))
        return held is not None and held.account is account and held.until > self._now()

    def labelOf(self, name: str) -> str:
        """
        Return what people call the account of this name.
        """
        return self._labels.get(name, name)


def settingsAccount(apiKey: str, secret: bytes) -> Account:
    """
    Return the account of the key in the settings. What it keeps is under a
    keyed hash of the key: another key there is another account, as ever.
    """
    name = blake2b(apiKey.encode("utf-8"), key=secret, digest_size=8).hexdigest()
    return Account(name, DEFAULT, isAdmin=True)


def _heldFrom(key: SavedKey, former: _HeldKey | None) -> _HeldKey:
    """
    Return what is kept of a key.

    @param former: what was kept of it; None for nothing.
    """
    models = None if key.models is None else frozenset(key.models.split(","))
    limits = AccountLimits(key.rpm, key.tpm, key.concurrent, key.tokensPerDay, key.tokensPerMonth)
    account = Account(key.account, key.account, models, limits, key.isAdmin)
    if former is not None and former.account == account:
        account = former.account
    if key.isDisabled:
        return _HeldKey(key.digest, account, -inf, f"This API key ({key.shown}...) is disabled.", key)
    ends = [
        (inf, ""),
        (key.expiresAt or inf, f"This API key ({key.shown}...) has expired."),
        (key.replacedUntil or inf, f"This API key ({key.shown}...) was replaced by another one."),
    ]
    return _HeldKey(key.digest, account, *min(ends), key)

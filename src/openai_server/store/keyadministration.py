# -*- test-case-name: tests.admin.test_keys -*-
"""
What an operator does to keys, beside the servers that let them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import Connection

from openai_server.store.administration import Administration
from openai_server.store.interfaces import StoreError
from openai_server.store.keyrows import (
    addKey,
    allKeys,
    allTokensUsed,
    changeKeys,
    keysNamed,
    noteChange,
    removeKeys,
    removeReplaced,
)
from openai_server.store.savedkeys import SavedKey

#: What is the same in all keys of an account.
LIMITS: Final = ("rpm", "tpm", "concurrent", "tokensPerDay", "tokensPerMonth")


class KeyAdministration:
    """
    The keys in one database.
    """

    def __init__(self, database: Administration, now: float) -> None:
        """
        @param now: in seconds since 1970.
        """
        self._database = database
        self._now = now

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self._database.connected("BEGIN IMMEDIATE") as connection:
            # The row of the version is locked by this, and so all keys are.
            noteChange(connection)
            removeReplaced(connection, self._now)
            yield connection

    def list(self) -> Sequence[SavedKey]:
        """
        Return all keys.
        """
        with self._database.connected() as connection:
            return [
                key
                for key in allKeys(connection).keys
                if key.replacedUntil is None or key.replacedUntil > self._now
            ]

    def used(self, period: str) -> Mapping[str, int]:
        """
        Return the tokens that were used in a day or month, by account.
        """
        with self._database.connected() as connection:
            return allTokensUsed(connection, period)

    def add(self, key: SavedKey) -> None:
        """
        Keep a key. Where its account has others, those get the limits that it
        has, and it gets the rest from them.

        @raise StoreError: there is one of this name.
        """
        with self._changing() as connection:
            if keysNamed(connection, key.name):
                raise StoreError(f"there is a key named {key.name} already")
            others = [each for each in allKeys(connection).keys if each.account == key.account]
            given = {name: limit for name in LIMITS if (limit := getattr(key, name)) is not None}
            known = {name: getattr(others[0], name) for name in LIMITS} if others else {}
            addKey(connection, replace(key, **(known | given)))
            if given:
                changeKeys(connection, given, account=key.account)

    def set(self, name: str, values: Mapping[str, Any]) -> None:
        """
        Change a key, and the limits of its account.

        @param values: by the names of fields of L{SavedKey}.
        @raise StoreError: there is none of this name.
        """
        with self._changing() as connection:
            account = _one(connection, name).account
            limits = {field: value for field, value in values.items() if field in LIMITS}
            others = {field: value for field, value in values.items() if field not in LIMITS}
            if others:
                changeKeys(connection, others, name=name)
            if limits:
                changeKeys(connection, limits, account=account)

    def rotate(self, name: str, digest: bytes, shown: str, grace: float) -> None:
        """
        Put a key in another one's place.

        @param digest: of the new one.
        @param shown: its first characters.
        @param grace: seconds for which the old one stays good.
        @raise StoreError: there is none of this name.
        """
        with self._changing() as connection:
            old = _one(connection, name)
            if grace > 0:
                changeKeys(connection, {"replacedUntil": self._now + grace}, digest=old.digest)
            else:
                removeKeys(connection, digest=old.digest)
            addKey(connection, replace(old, digest=digest, shown=shown, createdAt=self._now))

    def remove(self, name: str) -> None:
        """
        Forget a key, and those that it has replaced.

        @raise StoreError: there is none of this name.
        """
        with self._changing() as connection:
            _one(connection, name)
            removeKeys(connection, name=name)


def _one(connection: Connection, name: str) -> SavedKey:
    found = [key for key in keysNamed(connection, name) if key.replacedUntil is None]
    if not found:
        raise StoreError(f"there is no key named {name}")
    return found[0]

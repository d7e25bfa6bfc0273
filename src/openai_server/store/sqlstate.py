# -*- test-case-name: tests.store.test_state -*-
"""
State in a database.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import nlargest
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred

from openai_server.store.claiming import ClaimState
from openai_server.store.conditional import ChangeAll, TakeAll, abandoned, parkedSids
from openai_server.store.leasing import (
    AcquireLease,
    ReleaseLease,
    ReleaseLeases,
    RenewLease,
    RenewLeases,
    leaseHolder,
)
from openai_server.store.memorystate import Leases
from openai_server.store.notifications import Notify
from openai_server.store.operations import ForgetState, SaveState, TakeState
from openai_server.store.queries import stateUnder, stateWith
from openai_server.store.reading import Reading
from openai_server.store.saved import Field, Key, S, Saved, SavedCall, keyOf
from openai_server.store.secrets import derivedSecret
from openai_server.store.topics import Topics

T = TypeVar("T")


class SQLState:
    """
    See L{openai_server.store.interfaces.StateStore}. While the store is
    degraded only what is unsaved can be read, and a process that is alone
    decides for itself what it may do. One of several takes only what none of
    the others can have seen.
    """

    lasts = True

    def __init__(
        self, reading: Reading, topics: Topics, channel: Callable[[], str] | None, now: Callable[[], float]
    ) -> None:
        """
        @param channel: tells on which channel other processes listen; None
            where there are none.
        @param now: the wall clock, in seconds since 1970.
        """
        self.isShared = channel is not None
        self.hear = topics.hear
        #: Of what all secrets are made.
        self.root = secrets.token_bytes(32)
        self._reading = reading
        self._changes = reading.changes
        self._now = now
        self._leases = Leases(now)
        self._topics = topics
        self._channel = channel

    def save(self, *saved: Saved) -> None:
        """
        Keep these.
        """
        for each in saved:
            self._changes.add(SaveState(each))

    def claim(self, saved: S) -> Deferred[S | None]:
        """
        Keep this where nothing is kept under its key. While the store is
        degraded, what is not known to be there may be claimed.
        """
        known = self._pending(type(saved)).get(keyOf(saved))
        return self._changes.ask(ClaimState(saved, self._now()), known)

    def durable(self) -> Deferred[bool]:
        """
        Let all that was saved and forgotten up to now outlast this process.
        """
        return self._changes.promised()

    def forget(self, kind: type[Saved], key: Key) -> None:
        """
        Keep what is under this key no longer.
        """
        self._changes.add(ForgetState(kind, key))

    def take(self, kind: type[Saved], key: Key) -> Deferred[bool]:
        """
        Forget what is under this key, for one of all who try. While the store
        is degraded, see L{_mayTake}.
        """
        return self._changes.ask(TakeState(kind, key, self._now()), self._mayTake(kind, [key]))

    def takeAll(self, kind: type[Saved], keys: Sequence[Key], **fields: Field) -> Deferred[bool]:
        """
        Forget what is under these keys, for one of all who try, if all of it
        is as it is said to be. While the store is degraded, see L{_mayTake}.
        """
        return self._changes.ask(TakeAll(kind, keys, fields, self._now()), self._mayTake(kind, keys))

    def _mayTake(self, kind: type[Saved], keys: Sequence[Key]) -> bool:
        """
        Return whether this process may take what is under these keys where the
        database does not say so: what is not known to be gone, and, if there
        are other processes, none of them can know of.
        """
        pending = self._pending(kind)
        isThere = all(key not in pending or pending[key] is not None for key in keys)
        if not isThere or not self.isShared:
            return isThere
        own = {
            keyOf(change.saved)
            for change in self._changes.unseen()
            if isinstance(change, SaveState) and type(change.saved) is kind
        }
        return own.issuperset(keys)

    def change(
        self, kind: type[Saved], to: Mapping[str, Field], **fields: Field
    ) -> Deferred[bool | None]:
        """
        Change all whose fields are these.
        """
        return self._changes.ask(ChangeAll(kind, to, fields, self._now()), None)

    def abandoned(self, limit: int, incarnation: str) -> Deferred[Sequence[SavedCall]]:
        """
        Return open calls whose owners hold no lease of their process; none
        while the store is degraded.
        """
        now = self._now()
        return self._reading.read(
            lambda connection: abandoned(connection, limit, incarnation, now), lambda: ()
        )

    def parkedSids(self, owner: str) -> Deferred[Collection[str] | None]:
        """
        Return the sids of all open calls that a process owns.
        """
        now = self._now()
        return self._reading.read(lambda connection: parkedSids(connection, owner, now), lambda: None)

    def get(self, kind: type[S], key: Key) -> Deferred[S | None]:
        """
        Return what is kept under this key.
        """
        now = self._now()
        return self._reading.read(
            lambda connection: stateUnder(connection, kind, key, now),
            lambda: cast(Any, self._pending(kind).get(key)),
        )

    def find(self, kind: type[S], *, limit: int, **fields: Field) -> Deferred[Sequence[S]]:
        """
        Return all whose fields are these.
        """
        now = self._now()

        def unsaved() -> Sequence[S]:
            found = [
                each
                for each in self._pending(kind).values()
                if each is not None and all(getattr(each, name) == is_ for name, is_ in fields.items())
            ]
            return cast("Sequence[S]", nlargest(limit, found, key=lambda each: each.expiresAt))

        return self._reading.read(lambda connection: stateWith(connection, kind, fields, limit, now), unsaved)

    def _pending(self, kind: type[Saved]) -> dict[Key, Saved | None]:
        """
        Return what is unsaved by its key, None for what is to be forgotten.
        """
        found: dict[Key, Saved | None] = {}
        for change in self._changes.pending():
            if isinstance(change, SaveState) and type(change.saved) is kind:
                isThere = change.saved.expiresAt > self._now()
                found[keyOf(change.saved)] = change.saved if isThere else None
            elif isinstance(change, ForgetState) and change.kind is kind:
                found[change.name] = None
            elif isinstance(change, TakeAll) and change.kind is kind:
                found |= dict.fromkeys(change.names)
        return found

    def secret(self, name: str) -> bytes:
        """
        Return the secret of this name.
        """
        return derivedSecret(self.root, name)

    # Leases.

    def acquire(self, name: str, owner: str, ttl: float) -> Deferred[bool]:
        """
        Take a lease that nobody has.
        """
        known = self._known(self._leases.acquire(name, owner, ttl))
        return self._changes.ask(AcquireLease(name, owner, self._now(), ttl), known)

    def renew(self, name: str, owner: str, ttl: float) -> Deferred[bool]:
        """
        Go on with one's own lease.
        """
        known = self._known(self._leases.renew(name, owner, ttl))
        return self._changes.ask(RenewLease(name, owner, self._now(), ttl), known)

    def release(self, name: str, owner: str) -> Deferred[bool]:
        """
        Give a lease back.
        """
        known = self._known(self._leases.release(name, owner))
        return self._changes.ask(ReleaseLease(name, owner, self._now()), known)

    def renewAll(self, owner: str, ttl: float) -> Deferred[int]:
        """
        Go on with all of one's own leases.
        """
        known = self._known(self._leases.renewAll(owner, ttl))
        return self._changes.ask(RenewLeases(owner, self._now(), ttl), known)

    def releaseAll(self, owner: str) -> Deferred[int]:
        """
        Give all of one's own leases back.
        """
        known = self._known(self._leases.releaseAll(owner))
        return self._changes.ask(ReleaseLeases(owner), known)

    def holder(self, name: str) -> Deferred[str | None]:
        """
        Return whose this lease is.
        """
        now = self._now()
        return self._reading.read(
            lambda connection: leaseHolder(connection, name, now),
            lambda: self._known(self._leases.holder(name)),
        )

    def _known(self, fired: Deferred[T]) -> T:
        return cast("T", cast(Any, fired).result)

    # Messages.

    def tell(self, topic: str, text: str) -> None:
        """
        Send a text to the listeners of a topic.
        """
        message = self._topics.message(topic, text)
        if self._channel is not None:
            self._changes.add(Notify(self._channel, message))
        self._changes.written().addCallback(lambda _: self._topics.tell(topic, text))

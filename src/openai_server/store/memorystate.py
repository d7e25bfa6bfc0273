# -*- test-case-name: tests.store.test_state -*-
"""
State in this process's memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import nlargest
from typing import Any, Final, cast

from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed

from openai_server.store.interfaces import PROCESS
from openai_server.store.saved import KINDS, Field, Key, S, Saved, SavedCall, keyOf
from openai_server.store.secrets import derivedSecret
from openai_server.store.topics import Topics

#: How many of each kind are kept.
MOST_SAVED: Final = 100_000


class MemoryState:
    """
    See L{openai_server.store.interfaces.StateStore}. Nothing of it outlasts
    the process.
    """

    lasts = False
    isShared = False

    def __init__(self, now: Callable[[], float]) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self._now = now
        self._root = secrets.token_bytes(32)
        # The one that was saved longest ago first.
        self._kept: dict[type[Saved], dict[Key, Saved]] = {kind: {} for kind in KINDS}
        self._leases = Leases(now)
        self.acquire = self._leases.acquire
        self.renew = self._leases.renew
        self.renewAll = self._leases.renewAll
        self.release = self._leases.release
        self.releaseAll = self._leases.releaseAll
        self.holder = self._leases.holder
        self._topics = Topics()
        self.hear = self._topics.hear

    def save(self, *saved: Saved) -> None:
        """
        Keep these.
        """
        for each in saved:
            kept = self._kept[type(each)]
            kept.pop(keyOf(each), None)
            kept[keyOf(each)] = each
            if len(kept) > MOST_SAVED:
                del kept[next(iter(kept))]

    def claim(self, saved: S) -> Deferred[S | None]:
        """
        Keep this where nothing is kept under its key.
        """
        found: S | None = cast(Any, self._kept[type(saved)].get(keyOf(saved)))
        if found is not None and found.expiresAt > self._now():
            return succeed(found)
        self.save(saved)
        return succeed(None)

    def durable(self) -> Deferred[bool]:
        """
        It will not be.
        """
        return succeed(False)

    def forget(self, kind: type[Saved], key: Key) -> None:
        """
        Keep what is under this key no longer.
        """
        self._kept[kind].pop(key, None)

    def take(self, kind: type[Saved], key: Key) -> Deferred[bool]:
        """
        Forget what is under this key.
        """
        found = self._kept[kind].pop(key, None)
        return succeed(found is not None and found.expiresAt > self._now())

    def takeAll(self, kind: type[Saved], keys: Sequence[Key], **fields: Field) -> Deferred[bool]:
        """
        Forget what is under these keys, if all of it is as it is said to be.
        """
        found = [each for each in self._with(kind, fields) if keyOf(each) in keys]
        if len(found) < len(keys):
            return succeed(False)
        for key in keys:
            del self._kept[kind][key]
        return succeed(True)

    def change(
        self, kind: type[Saved], to: Mapping[str, Field], **fields: Field
    ) -> Deferred[bool | None]:
        """
        Change all whose fields are these.
        """
        found = self._with(kind, fields)
        for each in found:
            self._kept[kind][keyOf(each)] = replace(each, **to)
        return succeed(bool(found))

    def abandoned(self, limit: int, incarnation: str) -> Deferred[Sequence[SavedCall]]:
        """
        Return open calls whose owners hold no lease of their process.
        """
        calls = cast("list[SavedCall]", self._with(SavedCall, {"isOpen": True, "incarnation": incarnation}))
        found = [call for call in calls if not self._leases.isHeld(PROCESS + call.owner)]
        return succeed(sorted(found, key=keyOf)[:limit])

    def parkedSids(self, owner: str) -> Deferred[Collection[str] | None]:
        """
        Return the sids of all open calls that a process owns.
        """
        calls = cast("list[SavedCall]", self._with(SavedCall, {"isOpen": True, "owner": owner}))
        return succeed({call.sid for call in calls})

    def get(self, kind: type[S], key: Key) -> Deferred[S | None]:
        """
        Return what is kept under this key.
        """
        found = self._kept[kind].get(key)
        isThere = found is not None and found.expiresAt > self._now()
        return succeed(cast(Any, found) if isThere else None)

    def find(self, kind: type[S], *, limit: int, **fields: Field) -> Deferred[Sequence[S]]:
        """
        Return all whose fields are these.
        """
        found = cast("list[S]", self._with(kind, fields))
        return succeed(nlargest(limit, found, key=lambda each: each.expiresAt))

    def _with(self, kind: type[Saved], fields: Mapping[str, Field]) -> list[Saved]:
        now = self._now()
        return [
            each
            for each in self._kept[kind].values()
            if each.expiresAt > now and all(getattr(each, name) == is_ for name, is_ in fields.items())
        ]

    def tell(self, topic: str, text: str) -> None:
        """
        Send a text to the listeners of a topic.
        """
        self._topics.message(topic, text)
        self._topics.tell(topic, text)

    def secret(self, name: str) -> bytes:
        """
        Return the secret of this name.
        """
        return derivedSecret(self._root, name)


class Leases:
    """
    Who may do what, in this process.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._held: dict[str, tuple[str, float]] = {}

    def acquire(self, name: str, owner: str, ttl: float) -> Deferred[bool]:
        """
        Take a lease that nobody has.
        """
        holder, until = self._held.get(name, (owner, 0.0))
        if holder != owner and until > self._now():
            return succeed(False)
        self._held[name] = owner, self._now() + ttl
        if len(self._held) > MOST_SAVED:
            now = self._now()
            self._held = {name: held for name, held in self._held.items() if held[1] > now}
        return succeed(True)

    def renew(self, name: str, owner: str, ttl: float) -> Deferred[bool]:
        """
        Go on with one's own lease.
        """
        isOwn = self._isOwn(name, owner)
        if isOwn:
            self._held[name] = owner, self._now() + ttl
        return succeed(isOwn)

    def renewAll(self, owner: str, ttl: float) -> Deferred[int]:
        """
        Go on with all of one's own leases.
        """
        own = self._ownOf(owner)
        self._held.update(dict.fromkeys(own, (owner, self._now() + ttl)))
        return succeed(len(own))

    def release(self, name: str, owner: str) -> Deferred[bool]:
        """
        Give a lease back.
        """
        isOwn = self._isOwn(name, owner)
        if isOwn:
            del self._held[name]
        return succeed(isOwn)

    def isHeld(self, name: str) -> bool:
        """
        Whether somebody has this lease.
        """
        return name in self._held and self._held[name][1] > self._now()

    def releaseAll(self, owner: str) -> Deferred[int]:
        """
        Give all of one's own leases back.
        """
        own = self._ownOf(owner)
        for name in own:
            del self._held[name]
        return succeed(len(own))

    def holder(self, name: str) -> Deferred[str | None]:
        """
        Return whose this lease is.
        """
        owner, until = self._held.get(name, (None, 0.0))
        return succeed(owner if until > self._now() else None)

    def _ownOf(self, owner: str) -> Sequence[str]:
        return [name for name, held in self._held.items() if held[0] == owner]

    def _isOwn(self, name: str, owner: str) -> bool:
        return name in self._held and self._held[name][0] == owner

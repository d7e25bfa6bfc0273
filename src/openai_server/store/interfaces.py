# -*- test-case-name: tests.store -*-
"""
What lasts: records, which are bytes under an id, that may go on from another
record and may have a list of items of their own; and state, which is what
sessions, calls and retries have to be told again after a restart.

Nothing here fails because a database does: see L{Store.whyDegraded}.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred

from openai_server.store.ledger import Ledger
from openai_server.store.saved import Field, Key, S, Saved, SavedCall
from openai_server.store.savedkeys import AccountStore
from openai_server.store.sharing import Leasing, Messaging

#: Bytes that a record takes beside its data, and an item beside its own.
OVERHEAD: Final = 512
#: Characters of an id, at most.
LONGEST_ID: Final = 512

#: How the lease begins that a process holds while it lives, before its name.
PROCESS: Final = "process:"

#: An id with the bytes that are kept under it.
Entry: TypeAlias = "tuple[str, bytes]"


class StoreError(Exception):
    """
    The store cannot be used. The text is one line for the operator, without a
    secret.
    """


@dataclass
class Bounds:
    """
    How much is kept.

    @ivar count: records; 0 for none.
    @ivar size: bytes of all together.
    @ivar age: seconds after which a record that was not used goes.
    @ivar ledgerAge: seconds for which it is kept what a turn has cost; 0 for
        nothing of that.
    """

    count: int
    size: int
    age: float
    ledgerAge: float = 90 * 86400.0


class RecordStore(Protocol):
    """
    Keeps records for accounts, none of which sees another's. It is bounded:
    the record that was used longest ago goes first, with its items.

    An id that L{isId} refuses names nothing, and nothing is kept under it.
    """

    def put(self, account: str, id: str, data: bytes, previous: str | None = None) -> Deferred[None]:
        """
        Keep a record, or another one under its id; the items of that stay, and
        its place among the others.

        @param previous: the id of the record that it goes on from.
        """

    def get(self, account: str, id: str) -> Deferred[bytes | None]:
        """
        Return a record; None when there is none.
        """

    def chain(self, account: str, id: str) -> Deferred[Sequence[bytes]]:
        """
        Return a record with all that it goes on from, the oldest first; nothing
        at all when one of them is gone.
        """

    def remove(self, account: str, id: str) -> Deferred[bool]:
        """
        Forget a record and its items.

        @return: whether there was one.
        """

    def records(
        self, account: str, prefix: str, *, after: str | None = None, limit: int, newestFirst: bool = False
    ) -> Deferred[Sequence[Entry]]:
        """
        Return records whose ids begin alike, in the order in which they were
        first kept.

        @param after: the id of the record behind which they begin, in the
            order asked for; nothing is returned where there is none of that id.
        @param limit: how many at most.
        """

    # Items.

    def append(self, account: str, id: str, items: Sequence[Entry]) -> Deferred[bool]:
        """
        Add items to the end of a record's list, all or none; one whose id is
        there already takes that one's place. The record counts as used.

        @return: whether they are kept: not where there is no such record, nor
            where all that may be kept has no room for it with these items,
            which leaves it as it was.
        """

    def items(
        self,
        account: str,
        id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        newestFirst: bool = False,
    ) -> Deferred[Sequence[Entry]]:
        """
        Return items of a record, in order; the record counts as used.

        @param after: the id of the item behind which they begin, in the order
            asked for; nothing is returned where there is none of that id.
        @param limit: how many at most; None for all.
        """

    def item(self, account: str, id: str, itemId: str) -> Deferred[bytes | None]:
        """
        Return one item; None when there is none.
        """

    def removeItem(self, account: str, id: str, itemId: str) -> Deferred[bool]:
        """
        Forget one item.

        @return: whether there was one.
        """


class StateStore(Leasing, Messaging, Protocol):
    """
    Keeps what is L{saved<openai_server.store.saved>}, and says who of several
    processes may do a thing.
    """

    @property
    def lasts(self) -> bool:
        """
        Whether what is saved outlasts the process.
        """

    def save(self, *saved: Saved) -> None:
        """
        Keep these, each in place of what is there under its key. They are
        written a little later, in this order.
        """

    def claim(self, saved: S) -> Deferred[S | None]:
        """
        Keep this, at once, where nothing is kept under its key.

        @return: what is kept there already; None for one of all who try.
        """

    def durable(self) -> Deferred[bool]:
        """
        Let all that was saved and forgotten up to now outlast this process, but
        for what may be lost: see L{openai_server.store.saved.LOSABLE}.

        @return: fires when it would outlast this process; with False where
            that cannot be had for now, and it is kept in memory until it can.
        """

    def forget(self, kind: type[Saved], key: Key) -> None:
        """
        Keep what is under this key no longer.
        """

    def take(self, kind: type[Saved], key: Key) -> Deferred[bool]:
        """
        Forget what is under this key, for one of all who try.

        @return: whether it was there: True for one process alone.
        """

    def takeAll(self, kind: type[Saved], keys: Sequence[Key], **fields: Field) -> Deferred[bool]:
        """
        Forget what is under these keys, for one of all who try, if all of it
        is there and has these fields; otherwise nothing.

        @return: whether it is forgotten: True for one process alone.
        """

    def change(
        self, kind: type[Saved], to: Mapping[str, Field], **fields: Field
    ) -> Deferred[bool | None]:
        """
        Change all whose fields are these, at once.

        @param to: what their fields are to be.
        @return: whether there were any. Of several who want to change the same
            fields from one value to others, it is True for one alone. None
            where nobody can say for now.
        """

    def abandoned(self, limit: int, incarnation: str) -> Deferred[Sequence[SavedCall]]:
        """
        Return open calls of one daemon's, whose owners hold no lease of their
        process.
        """

    def parkedSids(self, owner: str) -> Deferred[Collection[str] | None]:
        """
        Return the sids of all open calls that a process owns; None where nobody
        can say for now.
        """

    def get(self, kind: type[S], key: Key) -> Deferred[S | None]:
        """
        Return what is kept under this key.
        """

    def find(self, kind: type[S], *, limit: int, **fields: Field) -> Deferred[Sequence[S]]:
        """
        Return all whose fields are these, those that expire last first.

        @param fields: those of L{openai_server.store.saved.LOOKUPS} are quick
            to find.
        """

    def secret(self, name: str) -> bytes:
        """
        Return 32 random bytes that are the same for this name after a restart
        and in all processes that share the store. Where that could not be
        reached at the start, they are this process's own.
        """


class Store(Protocol):
    """
    All that lasts, as a service: it is opened at its start, and closed at its
    stop, when nobody uses it any more.

    @ivar whyDegraded: one word for why nothing can be read from or written to
        the database for now; None when all is well, or there is none. Until
        then this process serves from its memory.
    """

    @property
    def records(self) -> RecordStore: ...

    @property
    def state(self) -> StateStore: ...

    @property
    def accounts(self) -> AccountStore: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def whyDegraded(self) -> str | None: ...

    @property
    def unsaved(self) -> int:
        """
        How many changes are in memory only, and will be written.
        """

    def startService(self) -> None:
        """
        Open it.

        @raise StoreError: it must not be used: it was written by a newer version.
        """

    def stopService(self) -> Deferred[None]:
        """
        Write what is unsaved, for a few seconds at most, and close it.
        """


def isId(text: str) -> bool:
    """
    Whether records and items can have this id: every database takes it.
    """
    return len(text) <= LONGEST_ID and text.isprintable()

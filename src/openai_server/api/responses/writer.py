# -*- test-case-name: tests.api.responses.test_render -*-
"""
The numbered events of a row of items, one after the other, of which at most one
is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openai_server.api.responses.items import Ending, Part, SummaryPart, WholeItem
from openai_server.api.sse import jsonLine


class ItemWriter:
    """
    Writes the items of one answer as events, and has them then.

    @ivar _sequence: the number of the next event.
    @ivar _items: those that are done.
    @ivar _hasMessage: whether one of them, or the open one, is a message.
    @ivar _kind: what the open part is; None when none is open.
    @ivar _pieces: what it says so far.
    """

    __slots__ = ("_deltaHead", "_hasMessage", "_id", "_items", "_kind", "_pieces", "_sequence", "_token")

    def __init__(self, token: str, sequence: int) -> None:
        """
        @param token: what the items' ids have in common.
        @param sequence: the number of the first event.
        """
        self._token = token.encode()
        self._sequence = sequence
        self._hasMessage = False
        self._items: list[bytes] = []
        self._kind: type[Part] | None = None
        self._id = b""
        self._pieces: list[str] = []
        self._deltaHead = b""

    def _event(self, kind: bytes, members: bytes = b"") -> bytes:
        number = self._sequence
        self._sequence = number + 1
        return written(kind, number, members)

    @property
    def _ownId(self) -> bytes:
        # Of the item that comes next.
        return b"%b_%d" % (self._token, len(self._items))

    @property
    def _place(self) -> bytes:
        # Of the item that comes next, or is open.
        return b'"output_index":%d' % len(self._items)

    def _say(self, kind: type[Part], pieces: Sequence[str]) -> bytes:
        if self._kind is kind:
            return self._more(pieces)
        return self._open(kind) + self._more(pieces)

    def _open(self, kind: type[Part]) -> bytes:
        closed = self._close("completed")
        self._kind = kind
        self._hasMessage |= kind is not SummaryPart
        self._id = id = b"%b_%b" % (kind.prefix, self._ownId)
        place = self._place
        self._deltaHead = b'event: %b\ndata: {"type":"%b","item_id":"%b",%b,%b"delta":' % (
            kind.delta,
            kind.delta,
            id,
            place,
            kind.deltaMembers,
        )
        item = kind.item(id, "in_progress", b"")
        added = self._event(b"response.output_item.added", b'%b,"item":%b' % (place, item))
        return closed + added + self._ofItem(*kind.added(kind.part(b'""')))

    def _more(self, pieces: Sequence[str]) -> bytes:
        self._pieces += pieces
        head, number = self._deltaHead, self._sequence
        self._sequence = number + len(pieces)
        count = len(pieces)
        if count == 1:
            return b'%b%b,"sequence_number":%d}\n\n' % (head, jsonLine(pieces[0]), number)
        encoded = jsonLine(pieces)
        if encoded.count(b'"') == 2 * count:
            # No quote of a text's own: all are encoded and written at once.
            said: list[object] = [None] * (2 * count)
            said[::2] = encoded[2:-2].split(b'","')
            said[1::2] = range(number, number + count)
            form = b'%b"%%b","sequence_number":%%d}\n\n' % head.replace(b"%", b"%%")
            return form * count % tuple(said)
        return b"".join(
            [
                b'%b%b,"sequence_number":%d}\n\n' % (head, jsonLine(piece), at)
                for at, piece in enumerate(pieces, number)
            ]
        )

    def _close(self, ending: Ending) -> bytes:
        kind = self._kind
        if kind is None:
            return b""
        text = jsonLine("".join(self._pieces))
        part = kind.part(text)
        item = kind.item(self._id, ending, part)
        said = [self._ofItem(*each) for each in kind.done(text, part)]
        said.append(self._event(b"response.output_item.done", b'%b,"item":%b' % (self._place, item)))
        self._items.append(item)
        self._kind = None
        self._pieces = []
        return b"".join(said)

    def _ofItem(self, kind: bytes, members: bytes) -> bytes:
        said = b'"item_id":"%b",%b' % (self._id, self._place)
        return self._event(kind, b"%b,%b" % (said, members) if members else said)

    def _whole(self, make: Callable[[bytes], WholeItem]) -> bytes:
        closed = self._close("completed")
        item = make(self._ownId)
        self._id = item.id
        place = self._place
        said = [closed, self._event(b"response.output_item.added", b'%b,"item":%b' % (place, item.begun))]
        said += [self._ofItem(*each) for each in item.events]
        said.append(self._event(b"response.output_item.done", b'%b,"item":%b' % (place, item.item)))
        self._items.append(item.item)
        return b"".join(said)


def written(kind: bytes, number: int, members: bytes) -> bytes:
    """
    Return an event.

    @param kind: its type.
    @param members: what it says beside that and its number; may be empty.
    """
    rest = b",%b" % members if members else b""
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d%b}\n\n' % (kind, kind, number, rest)

# -*- test-case-name: tests.api.responses.test_records -*-
"""
How answers are kept: requests may go on from them, and they can be asked for
again.

What is kept is one record an answer, bytes that only its dialect reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from openai_server.api.inquiry import Inquiry
from openai_server.api.output import Output
from openai_server.api.renderer import Renderer


class RecordsWanted(msgspec.Struct, frozen=True):
    """
    A request that cannot be read without records.

    @ivar previous: the id of the one that it goes on from.
    @ivar others: ids of those that have something which it refers to.
    @ivar read: returns what the request asks. It takes the record that it goes
        on from with all that that one goes on from, the oldest first, none
        where one of them is gone; and by their ids those of the others that
        there are. It raises L{APIError<openai_server.errors.APIError>}, as
        parsing does, or since something is not there.
    """

    previous: str | None
    others: frozenset[str]
    read: Callable[[Sequence[bytes], Mapping[str, bytes]], Inquiry]


class Keeping(msgspec.Struct, frozen=True):
    """
    How the answer to one request is kept.

    @ivar id: of its record.
    @ivar previous: the id of the record that it goes on from.
    @ivar body: returns an answer whole. It takes all of the answer, whose last
        event is no C{Finished} or C{Failed} when it goes on; None for one that
        waits to be asked.
    @ivar record: returns its record, of the same.
    @ivar renderer: returns what writes the answer once more.
    """

    id: str
    previous: str | None
    body: Callable[[Sequence[Output] | None], bytes]
    record: Callable[[Sequence[Output] | None], bytes]
    renderer: Callable[[], Renderer]


class RecordReader(Protocol):
    """
    A dialect whose records can be asked for.
    """

    def answerOf(self, record: bytes) -> bytes:
        """
        Return the whole answer that a record is of.
        """

    def inputOf(self, records: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        """
        Return the items that led to the answer of the last record of a chain,
        in order, each with its C{id}.
        """

    def replay(self, record: bytes) -> tuple[Renderer, Sequence[Output]]:
        """
        Return what an answer that has ended was made of, and a renderer that
        writes its stream from that.
        """

    def resumed(self, renderer: Renderer, after: int) -> Renderer:
        """
        Return what writes only the rest of a stream.

        @param renderer: a new one, which would write all of it.
        @param after: the number of the last event that is not wanted; the
            first one's is 0.
        """

    def deletedBody(self, id: str) -> bytes:
        """
        Return the answer to whoever has had a record forgotten.
        """

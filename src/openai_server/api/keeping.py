# -*- test-case-name: tests.api.responses.test_records -*-
"""
What a dialect is whose answers are kept: requests may go on from them, and
they can be asked for again.

What is kept is one record an answer, bytes that only its dialect reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry
from openai_server.api.output import Output


class RecordsWanted(msgspec.Struct, frozen=True):
    """
    The records that are needed to read a request.

    @ivar previous: the id of the one that it goes on from.
    @ivar others: ids of those that have something which it refers to.
    """

    previous: str | None
    others: frozenset[str]


class KeepingDialect(Dialect, Protocol):
    """
    A dialect with records.
    """

    def wanted(self, inquiry: Inquiry) -> RecordsWanted | None:
        """
        Return what is needed to read the request of an inquiry; None where the
        inquiry is complete.
        """

    def resolved(
        self, body: bytes, model: str | None, chain: Sequence[bytes], others: Mapping[str, bytes]
    ) -> Inquiry:
        """
        Return what a request asks.

        @param model: that it asks for, if it names one.
        @param chain: the record that it goes on from, and all that that one
            goes on from, the oldest first; none where one of them is gone.
        @param others: by their ids, those of the others that there are.
        @raise APIError: 400, as when it is parsed, or something is not there.
        """

    def recordId(self, inquiry: Inquiry) -> str | None:
        """
        Return the id under which the answer to an inquiry is kept; None where
        it is not to be.
        """

    def previousOf(self, inquiry: Inquiry) -> str | None:
        """
        Return the id of the record that an inquiry goes on from.
        """

    def record(self, inquiry: Inquiry, events: Sequence[Output], isCancelled: bool) -> bytes:
        """
        Return the record of an answer.

        @param events: all of it; the last is no C{Finished} or C{Failed} when
            it goes on.
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

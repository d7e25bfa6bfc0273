# -*- test-case-name: tests.sessions.test_conversation -*-
"""
What a conversation is begun with, and what it needs of its surroundings.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from openai_server.api.output import Failed, Finished, Usage
from openai_server.errors import APIError, End
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.plans import Session
from openai_server.wire.ends import TurnEnd
from openai_server.wire.hiding import OUR_PREFIX
from openai_server.wire.tones import Shown


class Attendant(Protocol):
    """
    One HTTP answer that attends a conversation. Told things in order,
    synchronously; nothing after L{calledTools}, L{turnEnded} or L{failed}.
    """

    @property
    def asked(self) -> bytes | None:
        """
        For an answer in the shape of the deprecated C{functions}, which shows
        no call ids: the digest of the transcript that it answers.
        """

    @property
    def ended(self) -> Finished | Failed | None:
        """
        Its last event, when there has been one.
        """

    def usage(self) -> Usage:
        """
        Return what it has cost so far.
        """

    def turnEchoed(self) -> None:
        """
        The daemon has read the prompt.
        """

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        """
        What the turn shows, calls left out.
        """

    def calledTools(self, calls: Sequence[ParkedCall]) -> None:
        """
        The model waits for these results: the answer ends with them.
        """

    def turnEnded(self, end: TurnEnd) -> None:
        """
        The turn is over.
        """

    def failed(self, error: APIError) -> None:
        """
        The turn cannot go on, and was cancelled.
        """


class TurnContext(msgspec.Struct, frozen=True):
    """
    What a conversation was begun with.

    @ivar api: the name of the dialect that it was asked in.
    @ivar session: whose sid it is.
    @ivar names: the tools of this session: name on the wire, now or before ->
        name at the client.
    @ivar customTools: names on the wire of those that are custom tools.
    @ivar foreignTools: names that other bees list.
    @ivar parallel: whether one answer may hand out several calls.
    @ivar parkTimeout: seconds from a call's arrival to the park's deadline.
    """

    account: str
    api: str
    session: Session
    names: Mapping[str, str]
    customTools: frozenset[str]
    foreignTools: Container[str]
    parallel: bool
    parkTimeout: float

    @property
    def sid(self) -> str:
        """
        The sid of its turn.
        """
        return self.session.sid

    def differences(self, tools: Any) -> tuple[int, Sequence[str]]:
        """
        How many of the offered tools a model does not see, and the names of
        such as this server's that it sees beyond those.

        @param tools: the names that C{session-ready} tells, or nothing: then
            nothing is known.
        """
        if not isinstance(tools, list):
            return 0, ()
        ours = [name for name in tools if isinstance(name, str) and name.startswith(OUR_PREFIX)]
        if not ours and not self.names:
            return 0, ()
        shown = {name.removeprefix(OUR_PREFIX) for name in ours}
        seen = {self.names.get(name) for name in shown}
        missing = {name for name in self.names.values() if name not in seen}
        surplus = [name for name in shown if name not in self.names and name not in self.foreignTools]
        return len(missing), surplus


class EndedTurn(msgspec.Struct, frozen=True):
    """
    A turn that is over.

    @ivar model: what was asked.
    @ivar told: what its answers cost, by what was told of them.
    @ivar calls: how many calls clients were given.
    @ivar seconds: from the prompt to the end.
    @ivar why: how it ended for its last answer, or why it was given up; None
        where no answer attended its end.
    @ivar last: what the worker said in the end.
    """

    context: TurnContext
    model: str
    told: Usage
    calls: int
    seconds: float
    why: End | None
    last: TurnEnd

# -*- test-case-name: tests.daemon -*-
"""
The seam between the daemon's room and the rest: what can be asked of the
daemon, and who is told what comes of it.

The words: a I{turn} is one prompt until its C{finish} or C{error}. A turn has
one L{Audience} from its beginning to its end. An audience that loses interest
says L{Turn.cancel}: the turn is then I{draining}, its audience is told nothing
more, and its record lives on until the worker is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from openai_server.wire.ends import TurnEnd
from openai_server.wire.tones import Prompt, Shown, ToolCall, ToolDefinition


class Audience(Protocol):
    """
    Who asked: told of everything on one turn, in order, synchronously:
    C{turnEchoed} and C{tonesReceived}, then C{turnEnded}, then C{turnOver}.

    The last two come together when the worker ends the turn or is lost. They
    come apart when the turn is given up, by a deadline or after a fault of its
    audience: C{turnEnded} at once, C{turnOver} at its real end. After it called
    L{Turn.cancel} an audience is told C{turnOver} alone. Each comes at most
    once, and C{turnOver} comes for every turn.

    An exception out of one of these methods fails this turn alone.
    """

    def turnEchoed(self) -> None:
        """
        The daemon has read the prompt. Comes once, and not necessarily before
        the first tones.
        """

    def tonesReceived(self, tones: Sequence[Shown]) -> None:
        """
        What one read of the socket brought for this turn, in the order of the
        wire. An C{Error} among them has a C{callId} and concerns that call
        alone. A call is shown once, however often it comes.
        """

    def turnEnded(self, end: TurnEnd) -> None:
        """
        The turn has ended for its audience. Called exactly once, unless the
        turn was cancelled first.
        """

    def turnOver(self, end: TurnEnd) -> None:
        """
        The worker is really done with the turn: its sid may be prompted again,
        and what the turn was given may go. Called exactly once, as the last
        thing.
        """


class Turn(Protocol):
    """
    One prompt at the daemon.
    """

    @property
    def sid(self) -> str: ...

    @property
    def isOver(self) -> bool:
        """
        The worker is done with this turn: C{finish}, C{error} or loss; a
        draining turn is not over.
        """

    def cancel(self) -> None:
        """
        Nobody wants this turn any more: C{cancel} is sent, late tones are
        dropped, late tool-calls are answered with C{isError}. Does nothing
        when the turn is over or draining already.
        """

    def leave(self) -> None:
        """
        Nobody waits for this turn, though its audience still wants to be told
        of it: C{cancel} is sent, and nothing else changes.
        """

    def park(self) -> None:
        """
        The model waits for a tool's result: silence is expected, and the turn
        outlives the loss of the connection.
        """

    def resume(self) -> None:
        """
        The model has been given what it waited for: silence counts again.
        """

    def settle(self) -> None:
        """
        The turn is to end in good order by itself: silence counts again, and
        nothing is cancelled; its audience goes on being told.
        """

    def letGo(self) -> None:
        """
        Leave a parked turn to the next process: nothing is sent, and its
        audience is told nothing more, not even that it is over.
        """

    def answer(self, callId: str, toolName: str, text: str, isError: bool) -> None:
        """
        Send the result of one tool-call of this turn, as one C{tool-result}.

        @param toolName: the name as the C{tool-call} had it.
        @raise APIError: C{daemon_unavailable} when there is no connection.
        """


@dataclass(frozen=True)
class Bee:
    """
    One bee of the daemon's registry file.

    @ivar name: the key of its entry: the daemon's id for its connection.
    @ivar provides: its capabilities.
    """

    name: str
    hid: str
    models: tuple[str, ...]
    tools: tuple[str, ...]
    provides: tuple[str, ...] = ()


class Registry(Protocol):
    """
    What the daemon's registry file says, read again when it changes.
    """

    @property
    def isKnown(self) -> bool:
        """
        The file is there and readable; otherwise nothing may be concluded
        from what is or is not in it.
        """

    def bees(self) -> Sequence[Bee]:
        """
        All bees that are registered now, this one included.
        """

    def models(self) -> Sequence[str]:
        """
        Model ids that connected workers serve now, each once, in file order.
        """

    def hasSeen(self, model: str) -> bool:
        """
        The model was in the file at some time since the start.
        """


class Daemon(Protocol):
    """
    The daemon, as far as the rest of this server is concerned.
    """

    @property
    def whyNotReady(self) -> str | None:
        """
        None when prompts can be asked; else a short reason for the operator.
        """

    def whenTried(self) -> Deferred[None] | None:
        """
        Try to reach the daemon now, if it is away.

        @return: fires when the attempt has ended in either way, after about a
            second in any case; None when there is nothing to wait for.
        """

    def whenReached(self) -> Deferred[str | None]:
        """
        Fires with the L{incarnation} when the daemon is reached, at once when
        it is.
        """

    @property
    def incarnation(self) -> str | None:
        """
        What tells the daemon's process that was reached last from others; None
        where that cannot be known.
        """

    @property
    def registry(self) -> Registry: ...

    def newRid(self) -> str:
        """
        A fresh request id for a prompt.
        """

    @property
    def liveTools(self) -> Mapping[str, ToolDefinition]:
        """
        The tools of all turns that are not over, by name. Each prompt is shown
        them, and hides those that are not its own.
        """

    def ask(self, prompt: Prompt, audience: Audience, formerTools: Sequence[ToolDefinition] = ()) -> Turn:
        """
        Put a prompt to the daemon. The names of C{prompt.tools} are this bee's
        until the turn is over. The sid has no live turn (a programming error).

        @param formerTools: the tools under all names that they had in the
            session before: its process, when it is warm, may call these at
            once. They are this bee's too, and not offered.
        @raise APIError: C{daemon_unavailable}, nothing was sent.
        """

    def adopt(
        self,
        sid: str,
        model: str,
        calls: Sequence[ToolCall],
        tools: Sequence[ToolDefinition],
        audience: Audience,
    ) -> Turn:
        """
        Go on with a turn that an earlier process has asked this daemon's, and
        that is parked. The sid has no live turn (a programming error).

        @param calls: those that wait for results.
        @param tools: whatever its worker may know; the names are this bee's
            until the turn is over.
        """

    # Several processes at one daemon.

    def isLive(self, sid: str) -> bool:
        """
        Whether this process hears of a turn on this sid.
        """

    def tidy(self) -> None:
        """
        Answer no longer for tools of turns that are over. Otherwise that is
        said a little later, for many at once.
        """

    def onStray(self, listener: Callable[[ToolCall], None] | None) -> None:
        """
        Tell this listener of calls of turns that this process has not: the
        daemon gives a call to any bee that lists its name (humd 0.31.18). For
        each, somebody says L{give} where the turn is, or L{refuse} here.
        Without a listener they are refused.
        """

    def give(self, call: ToolCall) -> None:
        """
        Show a turn a call of it that another process was given.
        """

    def refuse(self, call: ToolCall) -> None:
        """
        Answer a call with an error: nobody has its turn.
        """

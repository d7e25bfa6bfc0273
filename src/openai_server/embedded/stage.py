# -*- test-case-name: tests.embedded.test_script -*-
"""
The stage that the steps of a script are played on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

#: What a step waits for: seconds (0: the others' turn), or None: a result.
Wait: TypeAlias = float | None


class Result(NamedTuple):
    """
    What a tool-call came back with.
    """

    text: str
    isError: bool


class Stage(Protocol):
    """
    What a step may do to the turn that plays it.

    @ivar pace: seconds after each delta.
    @ivar wordPace: seconds after each word of a model that streams words.
    @ivar dialect: C{chunkType} or C{part}.
    @ivar ending: members of the C{finish} to come.
    @ivar results: results of tool-calls by call id.
    """

    pace: float
    wordPace: float
    dialect: str
    ending: dict[str, Any]
    results: dict[str, Result]

    @property
    def offered(self) -> Sequence[str]:
        """
        Names of the tools that the process was given, its own left out.
        """

    @property
    def options(self) -> Mapping[str, str | None]:
        """
        What the worker passed to the process: C{system}, C{allowed},
        C{disallowed}.
        """

    def openBlock(self, kind: str) -> None:
        """
        Begin a block: C{text} or C{reasoning}.
        """

    def deltas(self, texts: Sequence[str]) -> None:
        """
        Show deltas of the open block.
        """

    def closeBlock(self) -> None:
        """
        End the open block.
        """

    def show(self, members: Mapping[str, Any]) -> None:
        """
        Show a tone of this session.
        """

    def showLine(self, line: bytes) -> None:
        """
        Show a line as it is.
        """

    def call(self, tone: Mapping[str, Any], patience: bool) -> str:
        """
        Send a tool-call.

        @param tone: its members; C{callId} when there, is kept.
        @param patience: whether the model waits for a result of its own.
        @return: the call's id.
        """

    def end(self) -> None:
        """
        The turn ends without another tone.
        """

    def exit(self, code: int) -> None:
        """
        The process ends.
        """


class Step(Protocol):
    """
    One thing that a model does.
    """

    def play(self, stage: Stage) -> Iterator[Wait]:
        """
        Do it, yielding whenever there is something to wait for.
        """

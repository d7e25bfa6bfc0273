# -*- test-case-name: tests.embedded.test_models -*-
"""
The models of the embedded worker: each turns a prompt into steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final, TypeAlias

from openai_server.embedded.arguments import argumentsFor
from openai_server.embedded.content import givenResults, lastUserText
from openai_server.embedded.playback import PlayedTurn, Step, Wait

#: Deltas that a step shows before it lets others have their turn.
SLICE: Final = 128

#: The C{usage} of a turn in which no model was asked.
NO_USAGE: Final[Mapping[str, int]] = {
    "input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "output_tokens": 0,
}

_COMMAND: Final = re.compile(r"/[\w:-]+(?:\s|\Z)", re.ASCII)

#: Words of L{longText} where the user names no number.
LONG_TEXT: Final = 1000

_PASSAGE: Final = (
    "A long answer comes in many small pieces. Each piece is shown as soon as it is there, and whoever reads "
    "along need not wait for the end. This text begins anew until it is as long as it was asked to be. "
)


@dataclass(frozen=True)
class ModelPrompt:
    """
    What a model is given.

    @ivar content: the whole of the prompt's content.
    @ivar tools: the definitions that its process was offered with its first
        prompt: the prompt's own, then what all bees list.
    """

    content: str
    tools: Sequence[Mapping[str, Any]] = ()

    @property
    def text(self) -> str:
        """
        The last words of the user.
        """
        return lastUserText(self.content)


#: What makes steps of a prompt, or None: the prompt vanishes on its way to the process.
Model: TypeAlias = Callable[[ModelPrompt], Sequence[Step] | None]


def speak(turn: PlayedTurn, texts: Iterable[str], kind: str = "text") -> Iterator[Wait]:
    """
    Show a block of deltas at the turn's pace: one at a time, or in slices
    between which others have their turn.

    @param kind: C{text} or C{reasoning}.
    """
    turn.openBlock(kind)
    rest = iter(texts)
    size = 1 if turn.pace else SLICE
    batch = list(islice(rest, size))
    while batch:
        turn.deltas(batch)
        following = list(islice(rest, size))
        if following or turn.pace:
            yield turn.pace
        batch = following
    turn.closeBlock()


def words(text: str) -> Iterator[str]:
    """
    Cut a text into words, each with the space that follows it.
    """
    start = 0
    for place, character in enumerate(text):
        if character.isspace() and not text[place + 1 : place + 2].isspace():
            yield text[start : place + 1]
            start = place + 1
    if start < len(text):
        yield text[start:]


@dataclass(frozen=True)
class SayWords:
    """
    Says a text, a delta a word.
    """

    text: str

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from speak(turn, words(self.text))


@dataclass(frozen=True)
class SayLongText:
    """
    Says so many words.
    """

    count: int

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from speak(turn, islice(cycle(words(_PASSAGE)), self.count))


@dataclass(frozen=True)
class CallTool:
    """
    Calls a tool, waits for the result and says what it was.

    @ivar tone: the members of the call.
    """

    tone: Mapping[str, Any]

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        callId = turn.call(self.tone)
        while callId not in turn.results:
            yield None
        result = turn.results[callId]
        verb = "failed" if result.isError else "says"
        yield from speak(turn, words(f"{self.tone['name']} {verb}: {result.text}\n"))


@dataclass(frozen=True)
class RunCommand:
    """
    Does what the CLI was told, with no word of a model's and no cost.
    """

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        turn.ending["usage"] = NO_USAGE
        yield from ()


def isCommand(content: str) -> bool:
    """
    Whether the CLI takes a prompt for a command of its own, known or not: it
    begins with a slash and a word (seen with 2.1.197). No model sees it.
    """
    return _COMMAND.match(content) is not None


def callTone(tool: Mapping[str, Any], text: str) -> dict[str, Any]:
    """
    Return a call of a tool with arguments that suit its schema.

    @param text: what the user said.
    """
    name = tool["name"]
    args = argumentsFor(tool.get("inputSchema"), text)
    return {"args": args, "chi": "tool-call", "name": name, "toolName": name}


def withoutCall(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Return what a model that calls tools does where there is nothing to call:
    the prompt ends with results, or offers no tool. Otherwise no steps.
    """
    results = givenResults(prompt.content)
    if results:
        return [SayWords("".join(f"{name} says: {result}\n" for name, result in results))]
    return [] if prompt.tools else [SayWords("I was offered no tool.")]


def echo(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Say the user's words, word by word.
    """
    return [SayWords(prompt.text)]


def toolOne(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Call the first tool that is offered and say what came back. Where the
    prompt ends with results, say those.
    """
    return withoutCall(prompt) or [CallTool(callTone(prompt.tools[0], prompt.text))]


def longText(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Say as many words as the first number in the user's text names.
    """
    number = re.search(r"[0-9]{1,9}", prompt.text)
    return [SayLongText(int(number[0]) if number else LONG_TEXT)]


#: What C{--embedded} serves.
MODELS: Final[Mapping[str, Model]] = {"echo": echo, "tool-one": toolOne, "long-text": longText}

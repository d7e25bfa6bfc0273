# -*- test-case-name: tests.embedded.test_models -*-
"""
The models of the embedded worker: each turns a prompt into steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from openai_server.embedded.arguments import argumentsFor
from openai_server.embedded.content import givenResults, lastUserText
from openai_server.embedded.script import ScriptError, stepsFromText
from openai_server.embedded.stage import Step
from openai_server.embedded.steps import (
    Call,
    CallTools,
    Fail,
    Flood,
    Raw,
    Say,
    Style,
    Vanish,
    Words,
)


@dataclass(frozen=True)
class Question:
    """
    What a model is given.

    @ivar content: the whole of the prompt's content.
    @ivar tools: the definitions that were offered with this prompt: its own,
        then what all bees list.
    """

    content: str
    tools: Sequence[Mapping[str, Any]] = ()

    @property
    def text(self) -> str:
        """
        The last words of the user.
        """
        return lastUserText(self.content)


Model: TypeAlias = Callable[[Question], Sequence[Step]]


def script(question: Question) -> Sequence[Step]:
    """
    Does what the script in the text says; a text without one comes back in two
    deltas. A script that cannot be played ends in an error that says why.
    """
    try:
        steps = stepsFromText(question.text)
    except ScriptError as error:
        return [Fail(f"script: {error}")]
    return [Say(question.text)] if steps is None else steps


def echo(question: Question) -> Sequence[Step]:
    """
    The user's words, word by word.
    """
    return [Words(question.text)]


def part(question: Question) -> Sequence[Step]:
    """
    As L{echo}, in the dialect of thrum's wire specification.
    """
    return [Style(dialect="part"), Words(question.text)]


def silence(question: Question) -> Sequence[Step]:
    """
    An echo of the prompt's rid, and nothing else ever.
    """
    return [Vanish()]


def burst(question: Question) -> Sequence[Step]:
    """
    As many deltas at once as the first number in the text says.
    """
    number = re.search(r"\d+", question.text)
    return [Flood(int(number[0]) if number else 1000)]


#: Tones that no client may be shown, for L{noise}.
_NOISE: Final[tuple[Mapping[str, Any], ...]] = (
    {"chi": "pulse", "sid": None},
    {"chi": "perf-mark", "text": "HIDDEN"},
    {"chi": "log", "message": "HIDDEN"},
    {"chi": "never-heard-of", "delta": "HIDDEN"},
    {"chi": "permission-ask", "text": "HIDDEN"},
    {"chi": "chunk", "chunkType": "text_delta", "blockIdx": 0, "delta": "HIDDEN", "sid": "foreign"},
    {"chi": "chunk", "chunkType": "text_delta", "blockIdx": 0, "delta": "HIDDEN", "sid": None},
    {"chi": "chunk", "chunkType": "stream_start", "delta": "HIDDEN"},
    {"chi": "finish", "finishReason": "success", "sid": "foreign"},
    {"chi": "error", "message": "HIDDEN", "sid": ""},
)


def noise(question: Question) -> Sequence[Step]:
    """
    As L{echo}, with tones in between that no client may be shown.
    """
    steps: list[Step] = [Raw(_NOISE[0])]
    for place, word in enumerate(question.text.split()):
        steps += [Words(word + " "), Raw(_NOISE[place % len(_NOISE)])]
    return [*steps, *map(Raw, _NOISE)]


def _callOf(tool: Mapping[str, Any], question: Question) -> Call:
    name = tool["name"]
    args = argumentsFor(tool.get("inputSchema"), question.text)
    return Call(name, {"args": args, "chi": "tool-call", "name": name, "toolName": name})


def _calling(question: Question, count: int, gap: float = 0.0) -> Sequence[Step]:
    results = givenResults(question.content)
    if results:
        return [Words("".join(f"{name} says: {result}\n" for name, result in results))]
    if not question.tools:
        return [Words("I was offered no tool.")]
    tools = [question.tools[place % len(question.tools)] for place in range(count)]
    calls = [_callOf(tool, question) for tool in tools]
    return [CallTools(calls, gap, "{name} says: {result}\n", "{name} failed: {result}\n")]


def toolOne(question: Question) -> Sequence[Step]:
    """
    Calls the first tool that it is offered and says what came back. Where the
    prompt ends with results, it says those.
    """
    return _calling(question, 1)


def toolParallel(question: Question) -> Sequence[Step]:
    """
    Calls two tools at once: the first two, or the only one twice.
    """
    return _calling(question, 2)


def toolLate(question: Question) -> Sequence[Step]:
    """
    As L{toolParallel}, the second call 50 ms after the first.
    """
    return _calling(question, 2, 0.05)


def toolUndeclared(question: Question) -> Sequence[Step]:
    """
    Calls a tool that nobody declared.
    """
    tool = {"name": "undeclared_tool"}
    return [CallTools([_callOf(tool, question)], 0.0, "{result}", "{result}")]


def toolMegabyte(question: Question) -> Sequence[Step]:
    """
    Calls the first tool that it is offered with 1 MiB of arguments.
    """
    steps = list(_calling(question, 1))
    if isinstance(steps[0], CallTools):
        call = steps[0].calls[0]
        big = Call(call.name, {**call.tone, "args": {**call.tone["args"], "padding": "x" * 1024 * 1024}})
        steps[0] = CallTools([big], 0.0, steps[0].saying, steps[0].failing)
    return steps


#: What C{--embedded} serves.
MODELS: Final[Mapping[str, Model]] = {
    "echo": echo,
    "script": script,
    "tool-one": toolOne,
    "tool-parallel": toolParallel,
    "tool-late": toolLate,
    "tool-undeclared": toolUndeclared,
    "tool-megabyte": toolMegabyte,
}

#: What tests may want besides.
TEST_MODELS: Final[Mapping[str, Model]] = {
    **MODELS,
    "noise": noise,
    "burst": burst,
    "part": part,
    "silence": silence,
}

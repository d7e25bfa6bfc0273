"""
Models for tests: they follow a script, call tools in strange ways, or say
what no client may be shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from openai_server.embedded.models import (
    Model,
    ModelPrompt,
    SayWords,
    callTone,
    echo,
    longText,
    toolOne,
    withoutCall,
)
from openai_server.embedded.playback import Step
from tests.machinery.script import ScriptError, stepsFromText
from tests.machinery.steps import Call, CallTools, Fail, Flood, Raw, Say, Style, reaching


def script(prompt: ModelPrompt) -> Sequence[Step] | None:
    """
    Do what the script in the text says; a text without one comes back in two
    deltas. A script that cannot be played ends in an error that says why.
    """
    try:
        steps = stepsFromText(prompt.text)
    except ScriptError as error:
        return [Fail(f"script: {error}")]
    return [Say(prompt.text)] if steps is None else reaching(steps)


def part(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Echo, in the dialect of thrum's wire specification.
    """
    return [Style(dialect="part"), SayWords(prompt.text)]


def silence(prompt: ModelPrompt) -> None:
    """
    Say nothing ever: only the prompt's rid is echoed.
    """


def burst(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Say as many deltas at once as the first number in the text says.
    """
    number = re.search(r"\d+", prompt.text)
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


def noise(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Echo, with tones in between that no client may be shown.
    """
    steps: list[Step] = [Raw(_NOISE[0])]
    for place, word in enumerate(prompt.text.split()):
        steps += [SayWords(word + " "), Raw(_NOISE[place % len(_NOISE)])]
    return [*steps, *map(Raw, _NOISE)]


def _calling(tones: Sequence[Mapping[str, Any]], gap: float = 0.0) -> Sequence[Step]:
    calls = [Call(tone["name"], tone) for tone in tones]
    return [CallTools(calls, gap, "{name} says: {result}\n", "{name} failed: {result}\n")]


def toolParallel(prompt: ModelPrompt, gap: float = 0.0) -> Sequence[Step]:
    """
    Call two tools at once: the first two, or the only one twice.
    """
    tools = [*prompt.tools, *prompt.tools][:2]
    return withoutCall(prompt) or _calling([callTone(tool, prompt.text) for tool in tools], gap)


def toolLate(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Call two tools, the second 50 ms after the first.
    """
    return toolParallel(prompt, 0.05)


def toolUndeclared(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Call a tool that nobody declared.
    """
    call = Call("undeclared_tool", callTone({"name": "undeclared_tool"}, prompt.text))
    return [CallTools([call], 0.0, "{result}", "{result}")]


def toolMegabyte(prompt: ModelPrompt) -> Sequence[Step]:
    """
    Call the first tool that is offered with 1 MiB of arguments.
    """
    found = withoutCall(prompt)
    if found:
        return found
    tone = callTone(prompt.tools[0], prompt.text)
    return _calling([{**tone, "args": {**tone["args"], "padding": "x" * 1024 * 1024}}])


#: What a daemon in a test serves.
TEST_MODELS: Final[Mapping[str, Model]] = {
    "echo": echo,
    "tool-one": toolOne,
    "long-text": longText,
    "script": script,
    "tool-parallel": toolParallel,
    "tool-late": toolLate,
    "tool-undeclared": toolUndeclared,
    "tool-megabyte": toolMegabyte,
    "noise": noise,
    "burst": burst,
    "part": part,
    "silence": silence,
}

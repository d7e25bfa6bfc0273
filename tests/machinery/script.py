"""
What a scripted model does, step by step.

A script is a JSON list of steps. Each step becomes an object here once, when
the prompt comes, and plays itself on a turn.

The steps of the recorded tones: C{say} with C{parts}, C{think}, C{tool} with
C{args}, C{tools}, C{own_tool}, C{sleep}, C{list_startup}, C{options},
C{flood}, C{result_error}, C{max_turns}, C{exit}. Added for tests:

  - C{{"words": TEXT, "pace": SECONDS}}: a text block, a delta a word.
  - C{{"pace": SECONDS}}: a pause after each of the deltas that follow.
  - C{{"dialect": "part"}}: the chunks that follow are in the form of thrum's
    wire specification (C{"chunkType"} switches back).
  - C{{"raw": TONE}}: any tone, to the owners of this session. Without a C{sid}
    it gets that of this turn; C{"sid": null} leaves it out.
  - C{{"line": TEXT}}: any line, as latin-1 bytes.
  - C{{"usage": {...}}}: the usage of the C{finish} to come, null too.
    C{{"finish": {...}}}: other members of it; null takes one out.
  - C{{"end": 1}}: the turn ends without a tone. C{{"silence": 1}}: it never ends.
  - C{{"vanish": 1}}: the prompt vanishes: an echo and nothing else.
  - C{tool} and C{tools} also take: C{gap}, seconds between the calls; C{saying}
    and C{failing}, what is said of a result (C{{name}} and C{{result}} stand for
    themselves). A call also takes C{callId}; C{again}, arguments with which it
    is sent a second time under the same id; C{without}, names of members to
    leave out of its tone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from openai_server.embedded.playback import Step
from tests.machinery.steps import (
    NO_DETAIL,
    Call,
    CallTools,
    End,
    Exit,
    Fail,
    Finish,
    Flood,
    Line,
    ListStartup,
    Options,
    OwnTool,
    Raw,
    Say,
    Silence,
    Sleep,
    Style,
    Vanish,
    Words,
)


class ScriptError(Exception):
    """
    A script that cannot be played; the message says which step and why.
    """


_Written: TypeAlias = Mapping[str, Any]


def _callTone(written: _Written, args: Any) -> dict[str, Any]:
    name = written["tool"]
    tone = {"args": args, "chi": "tool-call", "name": name, "toolName": name}
    if "callId" in written:
        tone["callId"] = written["callId"]
    return {key: value for key, value in tone.items() if key not in written.get("without", ())}


def _call(written: _Written) -> Call:
    again = _callTone(written, written["again"]) if "again" in written else None
    return Call(written["tool"], _callTone(written, written.get("args", {})), again)


def _callTools(calls: Sequence[_Written], written: _Written) -> CallTools:
    made = CallTools([_call(call) for call in calls], float(written.get("gap", 0)))
    return CallTools(
        made.calls,
        made.gap,
        written.get("saying", made.saying),
        written.get("failing", made.failing),
    )


def _finish(members: _Written) -> Finish:
    given = {name: value for name, value in members.items() if value is not None}
    return Finish(given, members.keys() - given.keys())


#: How a step is told by its first member, in the order in which they are looked for.
_MAKERS: Final[dict[str, Callable[[_Written], Step]]] = {
    "say": lambda step: Say(step["say"], int(step.get("parts", 2))),
    "think": lambda step: Say(step["think"], 1, "reasoning"),
    "words": lambda step: Words(step["words"], step.get("pace")),
    "tool": lambda step: _callTools([step], step),
    "tools": lambda step: _callTools(step["tools"], step),
    "own_tool": lambda step: OwnTool(step["own_tool"]),
    "sleep": lambda step: Sleep(float(step["sleep"])),
    "list_startup": lambda step: ListStartup(),
    "options": lambda step: Options(),
    "flood": lambda step: Flood(int(step["flood"])),
    "result_error": lambda step: Fail(step["result_error"]),
    "max_turns": lambda step: Fail(NO_DETAIL, "error_max_turns"),
    "exit": lambda step: Exit(int(step["exit"])),
    "raw": lambda step: Raw(step["raw"]),
    "line": lambda step: Line(step["line"].encode("latin-1") + b"\n"),
    "usage": lambda step: Finish({"usage": step["usage"]}),
    "finish": lambda step: _finish(step["finish"]),
    "dialect": lambda step: Style(dialect=step["dialect"]),
    "pace": lambda step: Style(pace=float(step["pace"])),
    "end": lambda step: End(),
    "silence": lambda step: Silence(),
    "vanish": lambda step: Vanish(),
}


def stepFromWritten(written: object) -> Step:
    """
    One step of a script.

    @raise ScriptError: there is no such step, or its members are wrong.
    """
    if isinstance(written, dict):
        for name, make in _MAKERS.items():
            if name in written:
                try:
                    return make(written)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise ScriptError(f"step {name!r} is wrong: {error}") from error
    raise ScriptError(f"no such step: {json.dumps(written)[:100]}")


def stepsFromText(text: str) -> list[Step] | None:
    """
    The steps after the last marker C{#script } in a text, or None when there is
    no marker. What stands after the list is not looked at.

    @raise ScriptError: no list follows the marker, or a step of it is wrong.
    """
    _, marker, rest = text.rpartition("#script ")
    if not marker:
        return None
    try:
        written, _ = json.JSONDecoder().raw_decode(rest.lstrip())
    except ValueError as error:
        raise ScriptError(f"not JSON after the marker: {error}") from error
    if not isinstance(written, list):
        raise ScriptError("no list after the marker")
    return [stepFromWritten(step) for step in written]

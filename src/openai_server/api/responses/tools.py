# -*- test-case-name: tests.api.responses.test_tools -*-
"""
The tools of a request for a response. Those of a type that only OpenAI can
serve are left out: agents always send some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from openai_server.api.body import converted
from openai_server.api.inquiry import Tool, ToolChoice, ToolKind
from openai_server.api.responses.structs import FlatChoiceBody, FlatToolBody
from openai_server.api.rules import checkCount, distinctTools, offeredName, plainChoice, present
from openai_server.api.unread import UnreadNames
from openai_server.errors import APIError

_KINDS: dict[object, ToolKind] = {"function": "function", "custom": "custom"}
_MEMBERS = frozenset(FlatToolBody.__struct_fields__)


def toolsFromBody(
    found: Sequence[dict[str, Any]], unread: UnreadNames
) -> tuple[tuple[Tool, ...], list[dict[str, Any]]]:
    """
    Return the tools that can be served, checked, and as the response repeats
    them.

    @param unread: is told of those that are left out.
    @raise APIError: 400 with C{param}.
    """
    checkCount(found, "tools")
    tools: list[Tool] = []
    shown: list[dict[str, Any]] = []
    for index, each in enumerate(found):
        where = f"tools[{index}]"
        if not isinstance(each.get("type"), str):
            raise APIError("invalid_type", "A tool's type is a string.", param=f"{where}.type")
        if each["type"] not in _KINDS:
            unread.add(each["type"], True, "tools")
            continue
        for name in each.keys() - _MEMBERS:
            unread.add(name, each[name], where)
        tool = converted({name: each[name] for name in each.keys() & _MEMBERS}, FlatToolBody, where)
        tools.append(_tool(tool, where))
        shown.append(_shown(tool))
    return distinctTools(tools), shown


def _tool(tool: FlatToolBody, where: str) -> Tool:
    return Tool(
        kind=_KINDS[tool.type],
        name=tool.name,
        description=tool.description or "",
        parameters=tool.parameters,
        format=tool.format,
        param=where,
    )


def _shown(tool: FlatToolBody) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": tool.type, "name": tool.name, "description": tool.description}
    if tool.type == "custom":
        return {**shown, "format": tool.format or {"type": "text"}}
    return {**shown, "parameters": tool.parameters, "strict": tool.strict is not False}


def choiceFromBody(choice: str | dict[str, Any], tools: Sequence[Tool]) -> ToolChoice:
    """
    Return the request's C{tool_choice}, which names only tools that are there.
    Of tools that may be called, those that cannot be served are left out.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(choice, str):
        return plainChoice(choice, "tool_choice", ("none", "auto", "required"))
    wanted = converted(choice, FlatChoiceBody, "tool_choice")
    if wanted.type == "allowed_tools":
        allowed = present(wanted.tools, "tool_choice.tools")
        return ToolChoice(
            wanted.mode or "auto",
            None,
            tuple(
                _offered(each, tools, f"tool_choice.tools[{index}]")
                for index, each in enumerate(allowed)
                if each.type in _KINDS
            ),
        )
    if wanted.type not in _KINDS:
        said = "Tools of this type are not offered by this server."
        raise APIError("unsupported_value", said, param="tool_choice")
    return ToolChoice("required", _offered(wanted, tools, "tool_choice"))


def _offered(named: Any, tools: Sequence[Tool], where: str) -> str:
    return offeredName(present(named.name, f"{where}.name"), _KINDS[named.type], tools, where)


def shownChoice(choice: str | dict[str, Any] | None) -> Any:
    """
    Return a checked C{tool_choice} as the response repeats it.
    """
    if isinstance(choice, dict):
        wanted = msgspec.convert(choice, FlatChoiceBody)
        if wanted.type == "allowed_tools":
            return {"type": "allowed_tools", "mode": wanted.mode or "auto", "tools": choice["tools"]}
        return {"type": wanted.type, "name": wanted.name}
    return choice or "auto"

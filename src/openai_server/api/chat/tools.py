# -*- test-case-name: tests.api.chat.test_tools -*-
"""
The tools of a chat request, in whichever of OpenAI's three shapes they came:
C{tools} with functions or custom tools, and the deprecated C{functions}.
"""

from __future__ import annotations

from collections.abc import Sequence

from openai_server.api.chat.structs import ChoiceBody, FunctionBody, NameBody, NamedBody, ToolBody
from openai_server.api.inquiry import Tool, ToolChoice, ToolKind
from openai_server.api.rules import checkCount, distinctTools, offeredName, plainChoice, present
from openai_server.errors import APIError


def toolsFromBody(found: Sequence[ToolBody]) -> tuple[Tool, ...]:
    """
    Return the request's C{tools}, checked: names there and each once.

    @raise APIError: 400 with C{param}.
    """
    checkCount(found, "tools")
    return distinctTools([_tool(tool, f"tools[{index}]") for index, tool in enumerate(found)])


def functionsFromBody(found: Sequence[FunctionBody]) -> tuple[Tool, ...]:
    """
    Return the deprecated C{functions}, as tools.

    @raise APIError: 400 with C{param}.
    """
    checkCount(found, "functions")
    return distinctTools([_function(each, f"functions[{index}]") for index, each in enumerate(found)])


def _tool(tool: ToolBody, where: str) -> Tool:
    if tool.type == "function":
        return _function(present(tool.function, f"{where}.function"), f"{where}.function")
    if tool.type == "custom":
        custom = present(tool.custom, f"{where}.custom")
        return Tool(
            kind="custom",
            name=custom.name,
            description=custom.description or "",
            format=custom.format,
            param=f"{where}.custom",
        )
    raise APIError("invalid_value", "Tools are of type 'function' or 'custom'.", param=f"{where}.type")


def _function(function: FunctionBody, where: str) -> Tool:
    return Tool(
        kind="function",
        name=function.name,
        description=function.description or "",
        parameters=function.parameters,
        param=where,
    )


def choiceFromBody(choice: str | ChoiceBody, tools: Sequence[Tool]) -> ToolChoice:
    """
    Return the request's C{tool_choice}, which names only tools that are there.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(choice, str):
        return plainChoice(choice, "tool_choice", ("none", "auto", "required"))
    if choice.type == "allowed_tools":
        allowed = present(choice.allowed_tools, "tool_choice.allowed_tools")
        return ToolChoice(
            allowed.mode,
            None,
            tuple(
                _namedTool(named, tools, f"tool_choice.allowed_tools.tools[{index}]")
                for index, named in enumerate(allowed.tools)
            ),
        )
    return ToolChoice("required", _namedTool(choice, tools, "tool_choice"))


def legacyChoiceFromBody(choice: str | NameBody, tools: Sequence[Tool]) -> ToolChoice:
    """
    Return the deprecated C{function_call} of a request, as a tool choice.

    @raise APIError: 400 with C{param}.
    """
    if isinstance(choice, str):
        return plainChoice(choice, "function_call", ("none", "auto"))
    return ToolChoice("required", offeredName(choice.name, "function", tools, "function_call"))


def _namedTool(named: NamedBody, tools: Sequence[Tool], where: str) -> str:
    if named.type not in ("function", "custom"):
        raise APIError("invalid_value", "Unknown type of tool choice.", param=f"{where}.type")
    kind: ToolKind = "function" if named.type == "function" else "custom"
    body = present(named.function if kind == "function" else named.custom, f"{where}.{kind}")
    return offeredName(body.name, kind, tools, "tool_choice")

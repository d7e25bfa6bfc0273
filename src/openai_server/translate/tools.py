# -*- test-case-name: tests.translate.test_tools -*-
"""
The client's tools as the daemon carries them, and calls and results on their
way between the two.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from openai_server.api.arguments import argumentsText
from openai_server.api.inquiry import Inquiry, Media, Tool, ToolChoice
from openai_server.errors import APIError
from openai_server.translate.attachments import attachedFromMedia, attachmentLine
from openai_server.translate.names import ToolNames
from openai_server.translate.toolschema import SafeSchemas
from openai_server.wire.tones import ToolDefinition

#: Bytes of the definitions of one request together. They go out again with
#: each prompt of anybody, as long as its turn lives.
MAX_DEFINITIONS: Final = 2**20
#: Characters of a description on the wire; the claude CLI cuts at 2,048.
MAX_DESCRIPTION: Final = 2000
_CUT: Final = " [...] The whole description is in the system prompt."

#: What a custom tool looks like as a function.
_CUSTOM_FIELD: Final = "input"


@dataclass(frozen=True)
class Offer:
    """
    The tools that one prompt offers.

    @ivar definitions: as prompts and hellos carry them.
    @ivar names: from the daemon's names to the client's and back.
    @ivar systemText: descriptions too long for the wire, whole, for the
        system prompt; empty when there are none.
    @ivar instruction: what the request wishes about calls, in words for the
        model; empty when it wishes nothing.
    """

    definitions: tuple[ToolDefinition, ...] = ()
    names: ToolNames = ToolNames((), ())  # noqa: RUF009 - it never changes
    systemText: str = ""
    instruction: str = ""


#: What most requests offer.
NO_OFFER: Final = Offer()


def offerFrom(
    inquiry: Inquiry, taken: Container[str] = (), renamed: Mapping[str, str] | None = None
) -> Offer:
    """
    What a request offers its model: nothing for C{tool_choice: none}, and of
    C{allowed_tools} only those.

    @param taken: names that no tool can have at the daemon.
    @param renamed: what tools are called in place of their usual names there.
    @raise APIError: 400, the definitions are too large, or hold what the
        daemon cannot read.
    """
    choice = inquiry.toolChoice
    if choice.mode == "none" or not inquiry.tools:
        return NO_OFFER
    tools = [tool for tool in inquiry.tools if choice.allowed is None or tool.name in choice.allowed]
    if not tools:
        return NO_OFFER
    names = ToolNames(tools, taken, renamed)
    return Offer(
        tuple(_definitions(tools, names, inquiry.toolsParam)),
        names,
        _longDescriptions(tools, names),
        _instruction(choice, names, inquiry.isParallel),
    )


def _definitions(tools: Sequence[Tool], names: ToolNames, param: str) -> Iterator[ToolDefinition]:
    schemas = SafeSchemas()
    left = MAX_DEFINITIONS
    for tool in tools:
        definition = _definition(tool, names.wireName(tool.name), schemas)
        left -= len(definition.encoded)
        if left < 0:
            said = f"The definitions of all tools together have more than {MAX_DEFINITIONS} bytes."
            raise APIError("invalid_value", said, param=param)
        if not definition.isReadable:
            said = "The schema is nested too deep, or a number in it is too large."
            raise APIError("invalid_value", said, param=f"{tool.param}.parameters")
        yield definition


def _definition(tool: Tool, name: str, schemas: SafeSchemas) -> ToolDefinition:
    description = _description(tool)
    if len(description) > MAX_DESCRIPTION:
        description = description[: MAX_DESCRIPTION - len(_CUT)] + _CUT
    return ToolDefinition(name=name, description=description, inputSchema=_inputSchema(tool, schemas))


def _inputSchema(tool: Tool, schemas: SafeSchemas) -> dict[str, Any]:
    if tool.kind == "custom":
        text = {"type": "string", "description": "The whole input of the tool, as plain text."}
        return {"type": "object", "properties": {_CUSTOM_FIELD: text}, "required": [_CUSTOM_FIELD]}
    return schemas.of(tool.parameters, f"{tool.param}.parameters")


def _description(tool: Tool) -> str:
    grammar = (tool.format or {}).get("grammar")
    if not isinstance(grammar, dict):
        return tool.description
    syntax, definition = grammar.get("syntax", "grammar"), grammar.get("definition", "")
    return f"{tool.description}\n\nThe input must follow this grammar ({syntax}):\n{definition}".strip()


def _longDescriptions(tools: Sequence[Tool], names: ToolNames) -> str:
    found = [(names.wireName(tool.name), _description(tool)) for tool in tools]
    return "\n\n".join(
        f"Description of the tool {name}:\n{description}"
        for name, description in found
        if len(description) > MAX_DESCRIPTION
    )


def _instruction(choice: ToolChoice, names: ToolNames, isParallel: bool) -> str:
    said = []
    if choice.name is not None:
        said.append(f"Answer with a call of the tool {names.wireName(choice.name)}.")
    elif choice.mode == "required":
        said.append("Answer with a call of one of the tools you were given.")
    if not isParallel:
        said.append("Call at most one tool at a time.")
    return " ".join(said)


def inputText(args: Any) -> str:
    """
    The input of a call of a custom tool, out of the one field that its
    function has; whatever else came, as text.
    """
    if isinstance(args, str):
        try:
            args = msgspec.json.decode(args)
        except (msgspec.MsgspecError, RecursionError):
            return str(args)
    if isinstance(args, dict) and isinstance(args.get(_CUSTOM_FIELD), str):
        return str(args[_CUSTOM_FIELD])
    return args if isinstance(args, str) else argumentsText(args)


def resultText(content: str | Sequence[str | Media]) -> str:
    """
    Return the result of a call as the one string that workers read. Parts
    stand one under the other, what is not text as a line that says what it
    was.

    @raise APIError: 400, an attachment is no good.
    """
    if isinstance(content, str):
        return content
    return "\n".join(
        [part if isinstance(part, str) else attachmentLine(attachedFromMedia(part)) for part in content]
    )

# -*- test-case-name: tests.api.chat.test_tools -*-
"""
Rules about requests that do not depend on their dialect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from openai_server.api.inquiry import Tool, ToolChoice, ToolKind
from openai_server.errors import APIError

#: Characters of a model's id.
MAX_MODEL: Final = 256
#: Stop strings of a request, and characters of each.
MAX_STOPS: Final = 4
MAX_STOP: Final = 1000
#: Messages, or items of an input.
MAX_MESSAGES: Final = 10_000
MAX_TOOLS: Final = 512
#: Characters of a tool's name. OpenAI allows 64; MCP's names are longer.
MAX_NAME: Final = 256


def missing(param: str) -> APIError:
    """
    Return the error of a request without something that it must have.
    """
    return APIError("missing_required_parameter", f"Missing required parameter: '{param}'.", param=param)


def unknown(name: str) -> APIError:
    """
    Return the error of a field that OpenAI does not know.
    """
    return APIError("unknown_parameter", f"Unknown parameter: '{name}'.", param=name)


def present(value: Any, param: str) -> Any:
    """
    Return a value that must be there.

    @raise APIError: 400, it is not.
    """
    if value is None:
        raise missing(param)
    return value


def checkedModel(model: str | None) -> str:
    """
    Return the id of the model that a request asks for.

    @raise APIError: 400, there is none, or it is too long.
    """
    if not model:
        raise missing("model")
    if len(model) > MAX_MODEL:
        raise APIError("invalid_value", f"A model id has at most {MAX_MODEL} characters.", param="model")
    return model


def checkedStops(stop: str | tuple[str, ...]) -> tuple[str, ...]:
    """
    Return the strings at which an answer is to be cut; empty ones are none.

    @raise APIError: 400, there are too many, or one is too long.
    """
    stops = (stop,) if isinstance(stop, str) else tuple([each for each in stop if each])
    if len(stops) > MAX_STOPS or any(len(each) > MAX_STOP for each in stops):
        said = f"At most {MAX_STOPS} stop strings of up to {MAX_STOP} characters."
        raise APIError("invalid_value", said, param="stop")
    return stops


def checkMetadata(metadata: Mapping[str, str]) -> None:
    """
    Check that there is not too much of it.

    @raise APIError: 400.
    """
    if len(metadata) > 16:
        raise APIError("invalid_value", "At most 16 pairs of metadata.", param="metadata")
    if any(len(key) > 64 or len(value) > 512 for key, value in metadata.items()):
        said = "Metadata has keys of up to 64 and values of up to 512 characters."
        raise APIError("invalid_value", said, param="metadata")


def checkCount(found: Sequence[object], param: str) -> None:
    """
    Check that there are at most L{MAX_TOOLS} of them.

    @raise APIError: 400.
    """
    if len(found) > MAX_TOOLS:
        raise APIError("invalid_value", f"More than {MAX_TOOLS} tools.", param=param)


def distinctTools(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    """
    Return tools whose names are there, and each once.

    @raise APIError: 400 with C{param}.
    """
    seen: set[str] = set()
    for tool in tools:
        if not 1 <= len(tool.name) <= MAX_NAME:
            raise APIError(
                "invalid_value",
                f"A tool's name has 1 to {MAX_NAME} characters.",
                param=f"{tool.param}.name",
            )
        if tool.name in seen:
            raise APIError("invalid_value", "Two tools have this name.", param=f"{tool.param}.name")
        seen.add(tool.name)
    return tuple(tools)


def plainChoice(value: str, param: str, known: Sequence[str]) -> ToolChoice:
    """
    Return a choice among the tools that is one word.

    @raise APIError: 400, it is none of those that are known.
    """
    if value not in known:
        raise APIError("invalid_value", f"Must be one of {', '.join(known)}, or an object.", param=param)
    return ToolChoice(cast("Any", value))


def offeredName(name: str, kind: ToolKind, tools: Sequence[Tool], param: str) -> str:
    """
    Return the name of a tool that a choice names.

    @raise APIError: 400, it is not among the tools.
    """
    if not any(tool.name == name and tool.kind == kind for tool in tools):
        said = f"No {kind} of this name is among the tools: '{name[:MAX_NAME]}'."
        raise APIError("invalid_value", said, param=param)
    return name

# -*- test-case-name: tests.embedded.test_models -*-
"""
Plausible arguments for a tool, made from its schema and the user's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

#: Schemas in schemas that are looked into.
_DEPTH: Final = 5


def argumentsFor(schema: Any, text: str) -> dict[str, Any]:
    """
    Return arguments that a model might make.

    @param schema: a JSON Schema; anything that is not one gives no arguments.
    @param text: what the user said: strings are taken from its end.
    """
    made = _value(schema, text, _DEPTH)
    return made if isinstance(made, dict) else {}


def _value(schema: Any, text: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or not depth:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("enum", "examples"):
        if isinstance(schema.get(name), list) and schema[name]:
            return schema[name][0]
    return _typed(schema, text, depth)


def _typed(schema: Mapping[str, Any], text: str, depth: int) -> Any:
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            return _object(schema, text, depth)
        case "array":
            return [_value(schema.get("items"), text, depth - 1)] if "items" in schema else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _lastWord(text)


def _object(schema: Mapping[str, Any], text: str, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    wanted = schema.get("required") or list(properties)
    return {name: _value(properties.get(name, {}), text, depth - 1) for name in wanted}


def _lastWord(text: str) -> str:
    found = re.findall(r"\w[\w-]*", text[-1000:])
    return found[-1] if found else "something"

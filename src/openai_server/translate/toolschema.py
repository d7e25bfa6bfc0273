# -*- test-case-name: tests.translate.test_toolschema -*-
"""
A tool's JSON Schema in a form that no worker trips over.

One schema without C{type: object} at its top, or with a null in it, hides
every tool of a prompt from the model; a union at the top hides that tool
(seen with the claude CLI 2.1.197 behind humd 0.31.18).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openai_server.errors import APIError

#: Members that map names of the author's to schemas.
_MAPS: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
#: Members that hold values and no schemas.
_VALUES: Final = frozenset({"enum", "examples", "default", "const"})
_UNIONS: Final = ("allOf", "anyOf", "oneOf")
_REFERENCES: Final = 8
#: No double is as large: the daemon drops a line with such a number in it.
_LARGEST: Final = 2**1023


def safeSchema(parameters: Any, param: str) -> dict[str, Any]:
    """
    A schema that says the same as far as a model is concerned: an object at
    the top, no null members, no unions at the top.

    @param param: where it stands in the request.
    @raise APIError: 400, a number is too large for the daemon.
    """
    found = _schema(parameters, param) if isinstance(parameters, dict) else {}
    folded = _folded(found, found, _REFERENCES)
    properties = folded.pop("properties", None)
    return {"type": "object", "properties": properties or {}, **folded}


def _schema(schema: Mapping[str, Any], param: str) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for key, value in schema.items():
        if value is None:
            if key == "const":
                clean["type"] = "null"
        elif key in _MAPS:
            if isinstance(value, dict):
                clean[key] = {name: _inner(inner, param) for name, inner in value.items()}
        elif key == "required":
            if isinstance(value, list):
                clean[key] = [name for name in value if isinstance(name, str)]
        else:
            clean[key] = _value(value, param, key in _VALUES)
    return clean


def _inner(schema: Any, param: str) -> Any:
    return {} if schema is None else _value(schema, param, False)


def _value(value: Any, param: str, isData: bool) -> Any:
    if isinstance(value, dict):
        if isData:
            return {key: _value(each, param, True) for key, each in value.items() if each is not None}
        return _schema(value, param)
    if isinstance(value, list):
        return [_value(each, param, isData) for each in value if isData or each is not None]
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise APIError("invalid_value", "A number in the schema is too large.", param=param)
    return value


def _folded(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    # What the schema and the branches of its unions say about an object, as
    # one object. Nothing at all once references lead too deep.
    result = {key: value for key, value in schema.items() if key not in (*_UNIONS, "$ref", "type", "required")}
    properties: dict[str, Any] = dict(schema.get("properties", {}))
    required = dict.fromkeys(schema.get("required", ()))
    for branches, needsAll in _branches(schema, root, depth):
        needed = [branch.get("required", []) for branch in branches]
        for branch in branches:
            for name, inner in branch.get("properties", {}).items():
                properties[name] = _either(properties[name], inner) if name in properties else inner
        for name in needed[0]:
            if needsAll or all(name in names for names in needed):
                required[name] = None
    if properties:
        result["properties"] = properties
    if required:
        result["required"] = list(required)
    return result


def _branches(
    schema: Mapping[str, Any], root: Mapping[str, Any], depth: int
) -> list[tuple[list[dict[str, Any]], bool]]:
    if not depth:
        return []
    groups: list[tuple[list[Any], bool]] = [([_referenced(schema.get("$ref"), root)], True)]
    for key in _UNIONS:
        branches = schema.get(key)
        if isinstance(branches, list):
            groups += [([each], True) for each in branches] if key == "allOf" else [(branches, False)]
    folded = [
        ([_folded(each, root, depth - 1) for each in branches if isinstance(each, dict)], needsAll)
        for branches, needsAll in groups
    ]
    return [(branches, needsAll) for branches, needsAll in folded if branches]


def _referenced(reference: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def _either(one: Any, other: Any) -> Any:
    return one if one == other else {"anyOf": [one, other]}

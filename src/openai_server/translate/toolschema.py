# -*- test-case-name: tests.translate.test_toolschema -*-
"""
A tool's JSON Schema in a form that no worker trips over.

One schema without C{type: object} at its top, or with a null in it, hides
every tool of a prompt from the model; a union at the top hides that tool
(seen with the claude CLI 2.1.197 behind humd 0.31.18).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from openai_server.errors import APIError

#: Members that map names of the author's to schemas.
_MAPS: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
#: Members that hold values and no schemas.
_VALUES: Final = frozenset({"enum", "examples", "default", "const"})
_UNIONS: Final = ("allOf", "anyOf", "oneOf")
_REPLACED: Final = frozenset({*_UNIONS, "$ref", "type", "properties", "required"})
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
    folded = _Folding(found).folded(found)
    properties = folded.pop("properties", None)
    return {"type": "object", "properties": properties or {}, **folded}


def _schema(schema: Mapping[str, Any], param: str) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for key, value in schema.items():
        if value is None:
            if key == "const":
                clean["type"] = "null"
        elif key in _UNIONS:
            if isinstance(value, list):
                clean[key] = _value(value, param, False)
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


class _Folding:
    """
    One schema whose top-level unions and references become one object.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        # What a reference leads to, worked out once; empty as long as it is
        # being worked out, so that a circle ends.
        self._known: dict[str, dict[str, Any]] = {}

    def folded(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """
        What a schema and the branches of its unions say about an object.
        """
        properties = _Alternatives()
        properties.add(schema)
        required = dict.fromkeys(schema.get("required", ()))
        for branches, needsAll in self._groups(schema):
            for branch in branches:
                properties.add(branch)
            required |= dict.fromkeys(_needed([branch.get("required", []) for branch in branches], needsAll))
        result = {key: value for key, value in schema.items() if key not in _REPLACED}
        if properties.found:
            result["properties"] = properties.merged()
        if required:
            result["required"] = list(required)
        return result

    def _groups(self, schema: Mapping[str, Any]) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        # Branches that hold together, and whether all of them hold.
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield [self._referenced(reference)], True
        for key in _UNIONS:
            listed = schema.get(key)
            branches = [self.folded(each) for each in listed if isinstance(each, dict)] if listed else []
            if branches:
                yield branches, key == "allOf"

    def _referenced(self, reference: str) -> dict[str, Any]:
        if reference not in self._known:
            self._known[reference] = {}
            found = self._lookUp(reference)
            if isinstance(found, dict):
                self._known[reference] = self.folded(found)
        return self._known[reference]

    def _lookUp(self, reference: str) -> Any:
        found: Any = self._root if reference.startswith("#/") else None
        for step in reference.split("/")[1:]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found


class _Alternatives:
    """
    Properties of several schemas: where they differ, any of them will do.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[bytes, Any]] = {}

    def add(self, schema: Mapping[str, Any]) -> None:
        """
        Take a schema's properties too.
        """
        for name, inner in schema.get("properties", {}).items():
            self.found.setdefault(name, {})[msgspec.json.encode(inner)] = inner

    def merged(self) -> dict[str, Any]:
        """
        One schema for each name.
        """
        merged: dict[str, Any] = {}
        for name, distinct in self.found.items():
            schemas = list(distinct.values())
            merged[name] = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        return merged


def _needed(lists: Sequence[Sequence[str]], needsAll: bool) -> Iterator[str]:
    counts = Counter(name for names in lists for name in dict.fromkeys(names))
    return (name for name, count in counts.items() if needsAll or count == len(lists))

# -*- test-case-name: tests.translate.test_toolschema -*-
"""
Tools' JSON Schemas in a form that no worker trips over.

One schema without C{type: object} at its top, or with a null in it, hides
every tool of a prompt from the model; a union at the top hides that tool
(seen with the claude CLI 2.1.197 behind humd 0.31.18).

The schemas are strangers': what is made of them is no deeper than they are,
whatever refers to what, and what it costs has a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from openai_server.api.body import MAX_DEPTH
from openai_server.errors import APIError

#: Members that map names of the author's to schemas.
_MAPS: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
#: Members that hold values and no schemas.
_VALUES: Final = frozenset({"enum", "examples", "default", "const"})
_UNIONS: Final = ("allOf", "anyOf", "oneOf")
#: Members that are left out where they are not of this type.
_TYPES: Final = {**dict.fromkeys(_MAPS, dict), **dict.fromkeys((*_UNIONS, "required"), list)}
_REPLACED: Final = frozenset({*_UNIONS, "$ref", "type", "properties", "required"})
_NESTED: Final = frozenset({dict, list})

#: Arrays and objects that the schemas of one request may hold.
MAX_CONTAINERS: Final = 2**14
#: What the foldings of one request may cost, some 10 ms: the bytes of the
#: properties that are put together, and for each of them, each required name
#: and each schema so much more.
MAX_FOLDING: Final = 2**20
_EACH: Final = 64
_EACH_SCHEMA: Final = 512


class SafeSchemas:
    """
    Makes the safe schemas of one request, which share what they may cost.
    """

    def __init__(self) -> None:
        self._left = MAX_FOLDING
        self._containers = 0

    def of(self, parameters: Any, param: str) -> dict[str, Any]:
        """
        A schema that says the same as far as a model is concerned: an object
        at the top, no null members, no unions at the top.

        @param param: where it stands in the request.
        @raise APIError: 400, it holds too much, or its unions and references
            lead to too much.
        """
        self._count(msgspec.json.encode(parameters), param)
        schema = _schema(parameters) if isinstance(parameters, dict) else {}
        if not schema.keys().isdisjoint((*_UNIONS, "$ref")):
            folding = _Folding(schema, param, self._left)
            schema = folding.folded()
            self._left = folding.left
        properties = schema.pop("properties", {})
        return {**schema, "type": "object", "properties": properties}

    def _count(self, encoded: bytes, param: str) -> None:
        self._containers += encoded.count(b"{") + encoded.count(b"[")
        if self._containers > MAX_CONTAINERS:
            said = f"The schemas of all tools together have over {MAX_CONTAINERS} arrays and objects."
            raise APIError("invalid_value", said, param=param)


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    clean: dict[str, Any] = {}
    for key, value in schema.items():
        kind = type(value)
        if key in _TYPES:
            if kind is _TYPES[key]:
                clean[key] = _member(key, value)
        elif kind in _NESTED:
            clean[key] = _data(value) if key in _VALUES else _inner(value)
        elif value is not None:
            clean[key] = value
        elif key == "const":
            clean["type"] = "null"
    return clean


def _member(key: str, value: Any) -> Any:
    if key == "required":
        return [name for name in value if type(name) is str]
    if key in _MAPS:
        return {name: {} if each is None else _inner(each) for name, each in value.items()}
    return _inner(value)


def _inner(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return _schema(value)
    if kind is list:
        return [_inner(each) for each in value if each is not None]
    return value


def _data(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _data(each) for key, each in value.items() if each is not None}
    if kind is list and not _NESTED.isdisjoint(map(type, value)):
        return list(map(_data, value))
    return value


class _Folding:
    """
    One schema whose top-level unions and references become one object.

    @ivar left: what it may still cost.
    """

    def __init__(self, root: dict[str, Any], param: str, left: int) -> None:
        self.left = left
        self._root = root
        self._param = param
        # The different schemas of each property, by their JSON.
        self._found: dict[str, dict[bytes, Any]] = {}
        # By identity, of each schema that was met: what its references and
        # unions lead to, and then the names that it requires.
        self._groups: dict[int, list[tuple[list[dict[str, Any]], bool]]] = {}
        self._required: dict[int, list[str]] = {}

    def folded(self) -> dict[str, Any]:
        """
        What the schema and the branches of its unions say about an object.
        """
        self._lookAtAll()
        result = {key: value for key, value in self._root.items() if key not in _REPLACED}
        result["properties"] = {name: _either(found) for name, found in self._found.items()}
        if required := self._required[id(self._root)]:
            result["required"] = required
        return result

    def _lookAtAll(self) -> None:
        # A loop, because one reference can lead to the next any number of
        # times: each schema is met once, and left when all that it leads to
        # was. In a circle the one that was met first has no names yet.
        todo = [(self._root, False)]
        while todo:
            schema, isLeft = todo.pop()
            if isLeft:
                self._leave(schema)
            elif id(schema) not in self._groups:
                self._pay(_EACH_SCHEMA)
                self._addProperties(schema.get("properties", {}))
                groups = self._groups[id(schema)] = list(self._groupsOf(schema))
                todo.append((schema, True))
                todo += [(branch, False) for branches, _ in groups[::-1] for branch in branches[::-1]]

    def _leave(self, schema: Mapping[str, Any]) -> None:
        required = dict.fromkeys(schema.get("required", ()))
        for branches, needsAll in self._groups[id(schema)]:
            lists = [self._required.get(id(branch), []) for branch in branches]
            self._pay(_EACH * sum(map(len, lists)))
            required |= dict.fromkeys(_needed(lists, needsAll))
        self._required[id(schema)] = list(required)

    def _addProperties(self, properties: Mapping[str, Any]) -> None:
        for name, inner in properties.items():
            found = self._found.setdefault(name, {})
            for each in _alternatives(inner):
                encoded = msgspec.json.encode(each)
                self._pay(_EACH + len(encoded))
                found[encoded] = each

    def _pay(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            said = "The schema's references and alternatives are too many to be made one object."
            raise APIError("invalid_value", said, param=self._param)

    def _groupsOf(self, schema: Mapping[str, Any]) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        # Branches that hold together, and whether all of them hold.
        found = self._lookUp(schema.get("$ref"))
        if found is not None:
            yield [found], True
        for key in _UNIONS:
            branches = [each for each in schema.get(key, ()) if isinstance(each, dict)]
            if branches:
                yield branches, key == "allOf"

    def _lookUp(self, reference: Any) -> dict[str, Any] | None:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        if reference.count("/") > MAX_DEPTH:
            # Nothing in a request is as deep.
            return None
        found: Any = self._root
        for step in reference.split("/")[1:]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else None


def _alternatives(schema: Any) -> Iterable[Any]:
    # What is itself nothing but alternatives stays as flat as it is.
    if isinstance(schema, dict) and schema.keys() == {"anyOf"} and schema["anyOf"]:
        return list(schema["anyOf"])
    return [schema]


def _either(found: Mapping[bytes, Any]) -> Any:
    schemas = list(found.values())
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _needed(lists: Sequence[Sequence[str]], needsAll: bool) -> Iterable[str]:
    if needsAll:
        return [name for names in lists for name in names]
    others = [set(names) for names in lists[1:]]
    return [name for name in lists[0] if all(name in other for other in others)]

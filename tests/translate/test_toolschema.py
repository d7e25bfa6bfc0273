"""
Schemas that no worker trips over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.errors import APIError
from openai_server.translate.toolschema import MAX_CONTAINERS, SafeSchemas
from openai_server.wire.readable import isDeeper
from tests.support import SyncCase

NOTHING = {"type": "object", "properties": {}}
STRING = {"type": "string"}
NUMBER = {"type": "number"}


def safe(schema: Any) -> dict[str, Any]:
    """
    The safe form of a schema.
    """
    return SafeSchemas().of(schema, "p")


def nullsIn(value: Any) -> Iterator[str]:
    """
    Names of members that are null.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if inner is None:
                yield name
            yield from nullsIn(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nullsIn(inner)


KEYS = st.sampled_from(
    [
        *("type", "properties", "required", "anyOf", "oneOf", "allOf", "enum", "const", "default", "items"),
        *("$ref", "$defs", "additionalProperties", "description", "a"),
    ]
)
LEAVES = st.sampled_from([None, "object", "string", True, 3, "#/$defs/a", "#/anyOf/a"])


class SafeSchemaTests(SyncCase):
    """
    L{SafeSchemas}.
    """

    def test_usualOnesStay(self) -> None:
        """
        What is good already says the same afterwards.
        """
        schema = {
            "type": "object",
            "properties": {
                "a": {**STRING, "enum": ["x", None], "default": "x"},
                "b": {"anyOf": [STRING, NUMBER]},
            },
            "required": ["a"],
            "additionalProperties": False,
            "$defs": {"q": {"type": "array", "items": {"$ref": "#/$defs/q"}}},
        }
        self.assertEqual(safe(schema), schema)

    def test_nothing(self) -> None:
        """
        No schema, an empty one, one that says nothing of an object.
        """
        odd = ({"type": None}, {"type": "string"}, {"type": ["object", "null"]}, {"required": None})
        for schema in (None, {}, *odd):
            self.assertEqual(safe(schema), NOTHING, schema)

    def test_nulls(self) -> None:
        """
        Null members go; a property keeps its name, a constant its meaning.
        """
        schema = {
            "type": "object",
            "description": None,
            "properties": {
                "a": None,
                "b": {"type": "string", "enum": None, "default": None},
                "c": {"const": None},
                "d": {"anyOf": [None, STRING], "default": {"x": None}},
            },
            "required": None,
        }
        self.assertEqual(
            safe(schema),
            {
                "type": "object",
                "properties": {
                    "a": {},
                    "b": STRING,
                    "c": {"type": "null"},
                    "d": {"anyOf": [STRING], "default": {}},
                },
            },
        )

    def test_required(self) -> None:
        """
        Only lists, only strings, inside too; a property may be called so.
        """
        schema = {"properties": {"required": {**STRING, "required": True}}, "required": ["required", 3, None]}
        self.assertEqual(
            safe(schema), {"type": "object", "properties": {"required": STRING}, "required": ["required"]}
        )

    def test_membersOfTheWrongType(self) -> None:
        """
        Maps and unions that are none are left out.
        """
        self.assertEqual(safe({"properties": [], "anyOf": {}, "$defs": 3, "$ref": 4}), NOTHING)
        self.assertEqual(safe({"anyOf": [3, True], "properties": {"a": True}})["properties"], {"a": True})

    def test_unionsAreFolded(self) -> None:
        """
        C{anyOf} and C{oneOf} need what all branches need, C{allOf} what any
        of them does; where branches differ, either will do.
        """
        one = {"type": "object", "properties": {"k": {"const": 1}, "a": STRING}, "required": ["k", "a"]}
        two = {"type": "object", "properties": {"k": {"const": 2}, "a": STRING}, "required": ["k"]}
        properties = {"k": {"anyOf": [{"const": 1}, {"const": 2}]}, "a": STRING}
        for key, required in (("anyOf", ["k"]), ("oneOf", ["k"]), ("allOf", ["k", "a"])):
            self.assertEqual(
                safe({key: [one, two]}), {"type": "object", "properties": properties, "required": required}
            )

    def test_unionBesideProperties(self) -> None:
        """
        Both count.
        """
        schema = {
            "type": "object",
            "properties": {"a": STRING},
            "required": ["a"],
            "anyOf": [{"properties": {"b": NUMBER}}, {"anyOf": [{"properties": {"c": NUMBER}}]}],
            "description": "d",
        }
        self.assertEqual(
            safe(schema),
            {
                "type": "object",
                "properties": {"a": STRING, "b": NUMBER, "c": NUMBER},
                "description": "d",
                "required": ["a"],
            },
        )

    def test_references(self) -> None:
        """
        At the top and in unions they are followed within the schema.
        """
        defs = {"x/y": {"properties": {"a": STRING}, "required": ["a"]}, "z": {"$ref": "#/$defs/x~1y"}}
        for schema in ({"$ref": "#/$defs/z"}, {"anyOf": [{"$ref": "#/$defs/z"}]}):
            found = safe({**schema, "$defs": defs})
            self.assertEqual((found["properties"], found["required"]), ({"a": STRING}, ["a"]))
            self.assertNotIn("$ref", found)

    def test_referencesThatLeadNowhere(self) -> None:
        """
        Outside, missing, in a circle: they say nothing.
        """
        long = "#/$defs/loop" + "/x" * 100_000
        for reference in ("http://x/y", "#", "#/$defs/none", "#/$defs/loop", "#/type/x", long):
            schema = {"$ref": reference, "$defs": {"loop": {"anyOf": [{"$ref": "#/$defs/loop"}]}}}
            self.assertEqual(safe(schema)["properties"], {})

    def test_manyReferencesInACircle(self) -> None:
        """
        Cost no more than the schema is long.
        """
        schema = {"anyOf": [{"$ref": f"#/$defs/d{n}"} for n in range(40)]}
        schema["$defs"] = {f"d{n}": {"anyOf": schema["anyOf"]} for n in range(40)}  # type: ignore[assignment]
        start = time.process_time()
        safe(schema)
        self.assertLess(time.process_time() - start, 2)

    def test_manyBranchesStayFlat(self) -> None:
        """
        A thousand variants are one list, not a thousand levels: the daemon
        drops what is too deep.
        """
        found = safe({"oneOf": [{"properties": {"k": {"const": n}}} for n in range(1000)]})
        self.assertEqual(len(found["properties"]["k"]["anyOf"]), 1000)

    def test_alternativesOfAlternatives(self) -> None:
        """
        Branches whose property has alternatives itself: one flat list, each once.
        """
        one, none = {"const": 1}, {"anyOf": list[Any]()}
        schemas = [{"anyOf": [STRING, NUMBER]}, one, {"anyOf": [NUMBER, one]}, none]
        found = safe({"anyOf": [{"properties": {"k": each}} for each in schemas]})
        self.assertEqual(found["properties"]["k"], {"anyOf": [STRING, NUMBER, one, none]})

    def test_chainedReferences(self) -> None:
        """
        (C23) However many references lead one to the next: no recursion, and
        what they say of one property stands side by side.
        """
        for length in (100, 400, 1500):
            values = [{"const": n} for n in range(length)]
            defs: dict[str, Any] = {
                f"d{n}": {"$ref": f"#/$defs/d{n + 1}", "properties": {"p": value}}
                for n, value in enumerate(values)
            }
            found = safe({"$ref": "#/$defs/d0", "$defs": defs})
            self.assertEqual(found["properties"], {"p": {"anyOf": values}})
            self.assertFalse(isDeeper(found, 5))

    def test_sharedReference(self) -> None:
        """
        Two branches that lead to the same schema both require what it does; a
        circle adds nothing.
        """
        defs = {
            "one": {"$ref": "#/$defs/both", "required": ["x"]},
            "two": {"$ref": "#/$defs/both"},
            "both": {"required": ["a"], "properties": {"a": STRING}, "allOf": [{"$ref": "#/$defs/one"}]},
        }
        found = safe({"anyOf": [{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}], "$defs": defs})
        self.assertEqual((found["properties"], found["required"]), ({"a": STRING}, ["a"]))

    def test_foldingHasABound(self) -> None:
        """
        Names that every level repeats, properties that hold each other, very
        many branches: what would take long is refused, and soon.
        """
        names = [f"n{n}" for n in range(2000)]
        twice: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
        twice["d40"] = {"required": names}
        inside: dict[str, Any] = {"description": "x" * 100_000}
        for _ in range(20):
            inside = {"properties": {"a": inside}}
        paths = ["#/$defs/q" + "/properties/a" * n for n in range(20)]
        for schema in (
            {"$ref": "#/$defs/d0", "$defs": twice},
            {"anyOf": [{"$ref": path} for path in paths], "$defs": {"q": inside}},
            {"anyOf": [{"properties": {f"k{n}": True for n in range(200)}} for _ in range(200)]},
            {"anyOf": [{} for _ in range(3000)]},
        ):
            start = time.process_time()
            error = self.assertRaises(APIError, safe, schema)
            self.assertEqual((error.name, error.param), ("invalid_value", "p"))
            self.assertLess(time.process_time() - start, 1)

    def test_manyContainers(self) -> None:
        """
        They are counted before anything is done with them, of all tools together.
        """
        schemas = SafeSchemas()
        half = {"properties": {f"p{n}": {} for n in range(MAX_CONTAINERS // 2 - 2)}}
        self.assertEqual(len(schemas.of(half, "p")["properties"]), MAX_CONTAINERS // 2 - 2)
        schemas.of(half, "p")
        error = self.assertRaises(APIError, schemas.of, {"properties": {}}, "q")
        self.assertEqual((error.name, error.param), ("invalid_value", "q"))

    def test_boundIsTheRequests(self) -> None:
        """
        Many tools may not cost more than one.
        """
        schemas = SafeSchemas()
        schema = {"anyOf": [{"properties": {f"k{n}": True for n in range(2500)}}] * 2}
        for _ in range(3):
            self.assertEqual(len(schemas.of(schema, "p")["properties"]), 2500)
        error = self.assertRaises(APIError, schemas.of, schema, "q")
        self.assertEqual((error.name, error.param), ("invalid_value", "q"))
        self.assertEqual(schemas.of({}, "p"), NOTHING)

    @settings(deadline=None, max_examples=300)
    @given(
        st.dictionaries(
            KEYS,
            st.recursive(
                LEAVES,
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
                max_leaves=10,
            ),
            max_size=5,
        )
    )
    def test_anySchema(self, schema: dict[str, Any]) -> None:
        """
        Whatever a client sends, the top is an object without a union, and no
        member is null.
        """
        found = safe(schema)
        self.assertEqual(found["type"], "object")
        self.assertIsInstance(found["properties"], dict)
        self.assertFalse({"anyOf", "oneOf", "allOf", "$ref"} & found.keys())
        self.assertIsInstance(found.get("required", []), list)
        self.assertEqual(list(nullsIn(found)), [])
        json.dumps(found)

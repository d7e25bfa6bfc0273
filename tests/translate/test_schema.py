"""
Answers against their JSON Schema.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Format, Inquiry, Message
from openai_server.errors import APIError
from openai_server.translate.prompt import promptFrom, textFromInquiry
from openai_server.translate.schema import MAX_ANSWER, MAX_CARRIED, MAX_SCHEMA, checkAnswer, checkSchema
from tests.support import SyncCase

#: An expression that needs ages for the text below.
EVIL = "^(a+)+$"
VICTIM = "a" * 40 + "!"
PATTERNS = {"patternProperties": {EVIL: {}}}

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"$ref": "#/$defs/x"}}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"x": {"enum": ["p", "q"]}},
}


class CheckAnswerTests(SyncCase):
    """
    L{checkAnswer}.
    """

    def test_table(self) -> None:
        """
        Valid, invalid, and not JSON at all.
        """
        for text, outcome in (
            ('{"a":1}', "valid"),
            (' {"a":1,"b":["p","q","p"]}\n', "valid"),
            ('{"a":"1"}', "invalid"),
            ('{"a":1,"b":["r"]}', "invalid"),
            ('{"a":1,"c":1}', "invalid"),
            ("{}", "invalid"),
            ("Sure: {}", "invalid"),
            ("", "invalid"),
            ("[" * 5000, "invalid"),
        ):
            self.assertEqual(checkAnswer(text, SCHEMA), outcome, text[:20])

    def test_anyObject(self) -> None:
        """
        Without a schema.
        """
        for text, outcome in (("{}", "valid"), ("[]", "invalid"), ("{", "invalid")):
            self.assertEqual(checkAnswer(text, None), outcome)

    def test_uniqueItems(self) -> None:
        """
        Objects are the same in whichever order their members come.
        """
        for text, outcome in (
            ('[{"a":1,"b":2},{"b":2,"a":1}]', "invalid"),
            ('[1,2,"1"]', "valid"),
            ('"text"', "valid"),
        ):
            self.assertEqual(checkAnswer(text, {"uniqueItems": True}), outcome)
        self.assertEqual(checkAnswer("[1,1]", {"uniqueItems": False}), "valid")

    def test_expressionsAreNeverRun(self) -> None:
        """
        Wherever they stand, also behind a reference: they would run for ever.
        """
        member = json.dumps({VICTIM: 1})
        for text, schema in (
            (json.dumps(VICTIM), {"pattern": EVIL}),
            (member, {"propertyNames": {"pattern": EVIL}}),
            (member, PATTERNS),
            (member, {**PATTERNS, "additionalProperties": False}),
            (member, {"allOf": [PATTERNS], "unevaluatedProperties": False}),
            (member, {"$ref": "#/$defs/q", "unevaluatedProperties": False, "$defs": {"q": PATTERNS}}),
            (
                member,
                {"allOf": [{"$ref": "#/$defs/q", "unevaluatedProperties": False}], "$defs": {"q": PATTERNS}},
            ),
        ):
            self.assertEqual(checkAnswer(text, schema), "unchecked", schema)

    def test_theRestIsStillChecked(self) -> None:
        """
        Beside an expression that is left out.
        """
        self.assertEqual(checkAnswer("3", {"type": "string", "pattern": EVIL}), "invalid")

    def test_propertyNamesThatAreKeywords(self) -> None:
        """
        A property called pattern is a property.
        """
        schema = {"properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}
        self.assertEqual(checkAnswer('{"pattern":"x"}', schema), "valid")

    def test_unevaluatedMembers(self) -> None:
        """
        Are left out: to find them, references are followed without a bound.
        """
        for key in ("unevaluatedProperties", "unevaluatedItems"):
            schema = {"$ref": "#/$defs/a", "$defs": {"a": {key: False}}}
            self.assertEqual([checkAnswer(text, schema) for text in ("{}", "[]")], ["unchecked"] * 2)

    def test_depth(self) -> None:
        """
        An answer that is too deep for the schema to be followed.
        """
        schema = {"items": {"$ref": "#"}}
        for levels, outcome in ((20, "valid"), (40, "unchecked"), (500, "unchecked")):
            self.assertEqual(checkAnswer("[" * levels + "]" * levels, schema), outcome)

    def test_circlesAndForeignReferences(self) -> None:
        """
        Nothing is fetched and nothing runs for ever.
        """
        for schema in (
            {"$ref": "#"},
            {"$ref": "http://127.0.0.1:9/x"},
            {"$ref": "#/none"},
            {"$dynamicRef": "#"},
            {"type": "weird"},
        ):
            self.assertEqual(checkAnswer("1", schema), "unchecked")

    def test_time(self) -> None:
        """
        A check ends when its time is up, whatever is left.
        """
        ticks = iter(range(1000))
        schema = {"items": {"type": "integer"}}
        outcome = checkAnswer("[1,2,3]", schema, now=lambda: next(ticks), budget=3)
        self.assertEqual(outcome, "unchecked")
        self.assertEqual(next(ticks), 5)

    def test_size(self) -> None:
        """
        Too much text, or too much schema, is not looked at.
        """
        self.assertEqual(checkAnswer('"' + "x" * MAX_ANSWER + '"', {}), "unchecked")
        self.assertEqual(checkAnswer("1", {"description": "x" * MAX_SCHEMA}), "unchecked")

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )

    @settings(deadline=None, max_examples=100)
    @given(JSON, st.dictionaries(st.sampled_from([*SCHEMA, "items", "not", "enum"]), JSON, max_size=3))
    def test_anything(self, answer: Any, schema: dict[str, Any]) -> None:
        """
        However malformed a schema is, the check has one of three outcomes.
        """
        outcome = checkAnswer(json.dumps(answer), schema)
        self.assertIn(outcome, ("valid", "invalid", "unchecked"))


class CheckSchemaTests(SyncCase):
    """
    L{checkSchema}.
    """

    def test_good(self) -> None:
        """
        Nothing is said, of newer keywords neither.
        """
        for schema in (SCHEMA, {}, {"prefixItems": [{}], "$defs": {}}, {"pattern": EVIL}):
            checkSchema(schema, "p")

    def test_bad(self) -> None:
        """
        400, with the place in the words.
        """
        for schema, place in (
            ({"type": "weird"}, "type"),
            ({"properties": {"a": {"minimum": "x"}}}, "properties/a/minimum"),
            ({"required": "a"}, "required"),
        ):
            error = self.assertRaises(APIError, checkSchema, schema, "x.schema")
            self.assertEqual((error.name, error.param), ("invalid_value", "x.schema"))
            self.assertIn(f"'{place}'", error.message)

    def test_whatCannotBeLookedAtPasses(self) -> None:
        """
        Too large, or too long in the looking.
        """
        checkSchema({"type": "weird", "description": "x" * MAX_SCHEMA}, "p")
        ticks = iter(range(1000))
        checkSchema({"type": "weird"}, "p", now=lambda: next(ticks), budget=0)

    def test_whatTheDaemonCannotReadIsRefused(self) -> None:
        """
        (C23) The schema goes out in the prompt: numbers beyond a double, more
        levels than the daemon parses, and more bytes than anybody needs.
        """
        for schema in ({"maximum": 10**400}, {"enum": [[-(10**309)]]}, {"description": "x" * MAX_CARRIED}):
            error = self.assertRaises(APIError, checkSchema, schema, "x.schema")
            self.assertEqual((error.name, error.param), ("invalid_value", "x.schema"))
        checkSchema({"maximum": 10**30}, "x.schema")

    def test_levelsAreThoseOfThePrompt(self) -> None:
        """
        (C23) What is let through is what the daemon parses where it stands.
        """
        schema: dict[str, Any] = {}
        for levels in range(1, 127):
            inquiry = Inquiry(
                model="m", messages=(Message("user", "x"),), format=Format("schema", "n", schema)
            )
            prompt = promptFrom(inquiry, textFromInquiry(inquiry, "b"), rid="r", sid="s")
            try:
                checkSchema(schema, "p", budget=0)
            except APIError:
                self.assertFalse(prompt.isReadable, levels)
            else:
                self.assertTrue(prompt.isReadable, levels)
            schema = {"not": schema}

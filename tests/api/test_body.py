"""
Bodies as objects.
"""

from __future__ import annotations

import base64
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.body import MAX_CONTAINERS, MAX_DEPTH, MAX_VALUES, objectFromBody
from openai_server.errors import APIError
from tests.support import SyncCase


def nested(levels: int) -> bytes:
    """
    An object with this many levels, its own counted.
    """
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


class ObjectFromBodyTests(SyncCase):
    """
    L{objectFromBody}: what passes and what is refused.
    """

    def refused(self, body: bytes) -> APIError:
        """
        The error that a body brings; always a 400 that blames no field.
        """
        error = self.assertRaises(APIError, objectFromBody, body)
        self.assertEqual((error.kind.status, error.kind.code, error.param), (400, None, None))
        return error

    def test_notJSON(self) -> None:
        """
        (C22) Each kind of broken body is a 400, never a crash.
        """
        for body in (
            b"",
            b"{",
            b"nonsense",
            b"\xef\xbb\xbf\xef\xbb\xbf{}",
            b"{}\xef\xbb\xbf",
            b"{} x",
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":1e400}',
            b'{"a":' + b"9" * 5000 + b"}",
            b'{"a":"\\ud8"}',
            b'{"a":"line\nbreak"}',
        ):
            self.assertEqual(self.refused(body).name, "invalid_json", body[:20])

    def test_byteOrderMark(self) -> None:
        """
        Windows programs write one before everything.
        """
        self.assertEqual(objectFromBody(b'\xef\xbb\xbf{"a":1}'), {"a": 1})

    def test_saysWhereItBreaks(self) -> None:
        """
        The position helps whoever wrote the body.
        """
        self.assertIn("byte 6", self.refused(b'{"a": x}').message)

    def test_notUTF8InAFieldThatNobodyReads(self) -> None:
        """
        (C22) The whole body is checked, values and keys.
        """
        for body in (b'{"unknown":{"x":["\xff"]}}', b'{"\xc3\x28":1}', b'{"a":"\xed\xa0\x80"}'):
            self.assertIn("UTF-8", self.refused(body).message)

    def test_notAnObject(self) -> None:
        """
        Any other JSON is refused.
        """
        for body in (b"[]", b"null", b'"text"', b"1"):
            self.assertIn("object", self.refused(body).message)

    def test_nesting(self) -> None:
        """
        The bound holds exactly, and the depths that crash parsers end as 400
        too.
        """
        self.assertEqual(list(objectFromBody(nested(MAX_DEPTH))), ["a"])
        for levels in (MAX_DEPTH + 1, 900, 5000):
            self.assertIn("nested", self.refused(nested(levels)).message)

    def test_wideIsNotDeep(self) -> None:
        """
        Many containers side by side, in lists and objects, pass.
        """
        body = json.dumps({"a": [{"b": [1]}] * 200}).encode()
        self.assertEqual(len(objectFromBody(body)["a"]), 200)

    def test_tooManyContainers(self) -> None:
        """
        (C24) They are counted before anything is decoded: the body need not even be
        JSON.
        """
        self.assertIn("arrays", self.refused(b"[" * (MAX_CONTAINERS + 1)).message)

    def test_tooManyValues(self) -> None:
        """
        (C24) Names, values and empty strings are counted too, wherever they
        stand, and whatever the names end in.
        """
        names = b",".join(b'"k%d\\\\" : 1' % number for number in range(MAX_VALUES // 2 + 1))
        for inner in (b"1," * (MAX_VALUES + 1), b'"",' * (MAX_VALUES * 2), b"{%b}," % names):
            self.assertIn("names and values", self.refused(b'{"a":[%b1]}' % inner).message)
        self.assertIn("names and values", self.refused(b"{%b" % names).message)

    def test_signsInTextsAreNotCounted(self) -> None:
        """
        (C24) A long program, a table and a JSON text are texts.
        """
        for text in ("f({x: [1]})\n", "a,b;c:d\n", '{"a\\\\": ["b", "\\""]}'):
            given = {"a": text * 100_000, "b": [1]}
            self.assertEqual(objectFromBody(json.dumps(given).encode()), given)

    def test_unclosedDeepListsFailFast(self) -> None:
        """
        Below the count the decoder's own bound on nesting ends it.
        """
        self.assertIn("nested", self.refused(b'{"a":' + b"[" * 30_000).message)

    def test_lastOfTwoKeysCounts(self) -> None:
        """
        (C25) Duplicate keys: the last wins, deeper down too.
        """
        self.assertEqual(objectFromBody(b'{"a":1,"a":{"b":1,"b":2}}'), {"a": {"b": 2}})

    def test_bigBase64IsLeftAlone(self) -> None:
        """
        Megabytes without an escape come through unchanged.
        """
        data = base64.b64encode(bytes(range(256)) * 4096).decode()
        self.assertEqual(objectFromBody(json.dumps({"d": data}).encode()), {"d": data})


class SurrogateTests(SyncCase):
    """
    Escapes of surrogates.
    """

    def test_table(self) -> None:
        """
        Lone ones become U+FFFD, pairs stay, escaped backslashes are no
        escapes.
        """
        for escaped, text in (
            (r"\ud83d", "\ufffd"),
            (r"\uDE00", "\ufffd"),
            (r"\ud83d\ude00", "\U0001f600"),
            (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
            (r"\ud83d\ude00\ude00", "\U0001f600\ufffd"),
            (r"\ude00\ud83d", "\ufffd\ufffd"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d", "\\\ufffd"),
            (r"\\ud83d\ude00", "\\ud83d\ufffd"),
            (r"\ud83dx\ude00", "\ufffdx\ufffd"),
            (r"\ud83d\n", "\ufffd\n"),
            (r"\u00e9\uD7FF\ue000", "\u00e9\ud7ff\ue000"),
        ):
            self.assertEqual(objectFromBody(b'{"a":"%b"}' % escaped.encode()), {"a": text}, escaped)

    def test_whatElseIsWrongStaysWrong(self) -> None:
        """
        Beside a lone one too, and nothing is read into raw control characters.
        """
        for body in (
            rb'{"a":"\ud83d","b":x}',
            rb'{"a":"\udX"}',
            b'{"a":"\\ud83d\0\0"}',
            b'{"a":"\\u00e9\0\0ud83d"}',
        ):
            error = self.assertRaises(APIError, objectFromBody, body)
            self.assertEqual(error.name, "invalid_json", body)

    def test_inKeys(self) -> None:
        """
        A key is a string like any other.
        """
        self.assertEqual(objectFromBody(rb'{"\udc00":1}'), {"\ufffd": 1})

    @settings(deadline=None, max_examples=200)
    @given(st.text(st.sampled_from(["a", "\\", "\ud83d", "\ude00", "\n", '"', "\u00e9", "u"])))
    def test_anyText(self, text: str) -> None:
        """
        Against Python's own reader of JSON, which keeps lone surrogates.
        """
        expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        body = json.dumps({"a": text}).encode()
        found = objectFromBody(body)["a"]
        self.assertEqual(found, "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in expected))
        found.encode()

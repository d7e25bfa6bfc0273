"""
Tests for L{openai_server.api.completions.request}.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openai_server.api.completions.request import CONTINUE, MAX_PROMPTS, inquiryFromBody
from openai_server.api.inquiry import Inquiry, Message, Sampling
from openai_server.api.rules import MAX_STOP
from openai_server.errors import APIError
from tests.support import SyncCase

#: Every field of OpenAI's reference, with a value that has an effect or none.
ALL: dict[str, Any] = {
    "model": "m",
    "prompt": "Once upon",
    "best_of": 1,
    "echo": True,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": 0,
    "max_tokens": 100,
    "n": 1,
    "presence_penalty": -0.5,
    "seed": 7,
    "stop": ["\n", "", "END"],
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "suffix": 'the "end"',
    "temperature": 0.2,
    "top_p": 0.9,
    "user": "ann",
}


def parsed(strict: bool = False, **fields: Any) -> Inquiry:
    """
    What a request with these fields asks.
    """
    return inquiryFromBody(json.dumps({"model": "m", "prompt": "x", **fields}).encode(), strict=strict)


class ParseTests(SyncCase):
    """
    What is asked.
    """

    def refused(self, strict: bool = False, **fields: Any) -> tuple[str, str | None]:
        """
        The name and the field of the error.
        """
        error = self.assertRaises(APIError, parsed, strict, **fields)
        return error.name, error.param

    def test_plain(self) -> None:
        """
        The prompt is a message behind the instruction, in a session of its own.
        """
        expected = Inquiry(
            model="m",
            messages=(Message("system", CONTINUE), Message("user", "x")),
            sampling=Sampling(16),
            isIsolated=True,
            own=("",),
        )
        self.assertEqual(parsed(), expected)
        self.assertEqual(parsed(**dict.fromkeys(ALL.keys() - {"model", "prompt"})), expected)

    def test_everyField(self) -> None:
        """
        Each has its treatment, in strict servers too; C{user} names no session.
        """
        for strict in (False, True):
            inquiry = parsed(strict, **ALL)
            self.assertEqual((inquiry.isStreamed, inquiry.wantsUsage, inquiry.user), (True, True, None))
            self.assertEqual(inquiry.sampling, Sampling(100, 0.2, 0.9, 0.5, -0.5, 7))
            self.assertEqual((inquiry.stop, inquiry.own), (("\n", "END"), ("Once upon",)))
            self.assertEqual(set(inquiry.ignored), {"logit_bias", "seed", "user"})
            system, user = inquiry.messages
            self.assertTrue(system.text.startswith(CONTINUE) and system.text.endswith(r'"the \"end\""'))
            self.assertEqual(user, Message("user", "Once upon"))

    def test_severalPrompts(self) -> None:
        """
        Each is a question of its own, in order.
        """
        inquiry = parsed(prompt=["a", "", "b"])
        system = Message("system", CONTINUE)
        asked = [inquiry.messages, *inquiry.others]
        self.assertEqual(asked, [(system, Message("user", text)) for text in ("a", "", "b")])
        self.assertEqual(inquiry.own, ("", "", ""))
        self.assertEqual(parsed(prompt=["a", "b"], echo=True).own, ("a", "b"))
        self.assertEqual(parsed(prompt=["a"]), parsed(prompt="a"))
        self.assertEqual(len(parsed(prompt=["a"] * MAX_PROMPTS).others), MAX_PROMPTS - 1)

    def test_wrongPrompts(self) -> None:
        """
        Tokens, none, and what is no text.
        """
        for prompt, refusal in (
            (None, ("missing_required_parameter", "prompt")),
            ([], ("invalid_value", "prompt")),
            (["a"] * (MAX_PROMPTS + 1), ("invalid_value", "prompt")),
            ([1, 2], ("unsupported_value", "prompt")),
            ([1] * 4096, ("unsupported_value", "prompt")),
            ([[1, 2], [3]], ("unsupported_value", "prompt")),
            (["a", None], ("invalid_type", "prompt[1]")),
            (["a", {"text": "b"}], ("invalid_type", "prompt[1]")),
            ([True], ("invalid_type", "prompt[0]")),
            ({"text": "a"}, ("invalid_type", "prompt")),
            (7, ("invalid_type", "prompt")),
        ):
            with self.subTest(prompt=prompt):
                self.assertEqual(self.refused(prompt=prompt), refusal)

    def test_wrongFields(self) -> None:
        """
        What cannot be had, and what is wrong, names its field.
        """
        for fields, refusal in (
            ({"n": 2}, ("unsupported_value", "n")),
            ({"n": 0}, ("invalid_value", "n")),
            ({"best_of": 3}, ("unsupported_value", "best_of")),
            ({"logprobs": 1}, ("unsupported_parameter", "logprobs")),
            ({"logprobs": True}, ("unsupported_parameter", "logprobs")),
            ({"max_tokens": 0}, ("invalid_value", "max_tokens")),
            ({"temperature": 3}, ("invalid_value", "temperature")),
            ({"top_p": -1}, ("invalid_value", "top_p")),
            ({"frequency_penalty": 3}, ("invalid_value", "frequency_penalty")),
            ({"presence_penalty": -3}, ("invalid_value", "presence_penalty")),
            ({"stop": ["a"] * 5}, ("invalid_value", "stop")),
            ({"stop": "a" * (MAX_STOP + 1)}, ("invalid_value", "stop")),
            ({"stop": 1}, ("invalid_type", "stop")),
            ({"suffix": 1}, ("invalid_type", "suffix")),
            ({"echo": "yes"}, ("invalid_type", "echo")),
            ({"stream": 1}, ("invalid_type", "stream")),
            ({"stream_options": {"include_usage": 1}}, ("invalid_type", "stream_options.include_usage")),
            ({"seed": 2**63}, ("invalid_value", "seed")),
            ({"model": None}, ("missing_required_parameter", "model")),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(self.refused(**fields), refusal)

    def test_lenient(self) -> None:
        """
        Whole numbers as floats, and fields of other servers.
        """
        inquiry = parsed(
            max_tokens=20.0, top_k=5, logprobs=False, stream_options={"x": 1, "include_usage": None}
        )
        self.assertEqual((inquiry.sampling.maxTokens, inquiry.ignored), (20, ("top_k", "stream_options.x")))
        self.assertEqual(self.refused(True, top_k=5), ("unknown_parameter", "top_k"))
        self.assertEqual(
            self.refused(True, stream_options={"x": 1}), ("unknown_parameter", "stream_options.x")
        )

    def test_model(self) -> None:
        """
        The path's, the body's, the default.
        """
        for body, expected in ((b'{"prompt":"x"}', "d"), (b'{"prompt":"x","model":"b"}', "b")):
            self.assertEqual(inquiryFromBody(body, defaultModel=lambda: "d").model, expected)
            self.assertEqual(inquiryFromBody(body, model="p", defaultModel=lambda: "d").model, "p")

    @given(
        st.binary()
        | st.dictionaries(st.sampled_from(sorted(ALL)), st.from_type(object)).map(repr).map(str.encode)
    )
    def test_anyBytes(self, body: bytes) -> None:
        """
        They are a request, or refused as one.
        """
        try:
            inquiryFromBody(body)
        except APIError as error:
            self.assertEqual(error.kind.status, 400)

    @given(
        st.dictionaries(
            st.sampled_from(sorted(ALL)),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            ),
        )
    )
    def test_anyValues(self, fields: dict[str, Any]) -> None:
        """
        So is whatever stands in the fields that there are.
        """
        try:
            inquiry = parsed(**fields)
        except APIError as error:
            self.assertEqual(error.kind.status, 400)
        else:
            self.assertEqual(len(inquiry.own), 1 + len(inquiry.others))  # type: ignore[arg-type]

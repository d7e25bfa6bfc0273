"""
Messages of a request.
"""

from __future__ import annotations

from typing import Any

from openai_server.api.messages import MAX_MESSAGES, ROLES, Part, callsOf, messagesFromObject
from openai_server.errors import APIError
from tests.support import SyncCase


class MessageTests(SyncCase):
    """
    L{messagesFromObject}.
    """

    def refused(self, *messages: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that messages bring.
        """
        error = self.assertRaises(APIError, messagesFromObject, list(messages))
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_everyRole(self) -> None:
        """
        All of OpenAI's roles pass, the deprecated one too.
        """
        extra = {"tool": {"tool_call_id": "c"}, "function": {"name": "f"}}
        found = messagesFromObject([{"role": role, "content": "x", **extra.get(role, {})} for role in ROLES])
        self.assertEqual([message.role for message in found], list(ROLES))

    def test_unknownRole(self) -> None:
        """
        The second message is at fault.
        """
        said = self.refused({"role": "user", "content": "x"}, {"role": "robot", "content": "x"})
        self.assertEqual(said, ("invalid_value", "messages[1].role"))

    def test_wrongShapes(self) -> None:
        """
        Each is a 400 that names the place.
        """
        for message, said in (
            ({"content": "x"}, ("missing_required_parameter", "messages[0].role")),
            ({"role": 3}, ("invalid_type", "messages[0].role")),
            ("hello", ("invalid_type", "messages[0]")),
            ({"role": "user", "content": 3}, ("invalid_type", "messages[0].content")),
            ({"role": "user", "content": ["x"]}, ("invalid_type", "messages[0].content[0]")),
            (
                {"role": "user", "content": [{}]},
                ("missing_required_parameter", "messages[0].content[0].type"),
            ),
            (
                {"role": "user", "content": [{"type": "text"}]},
                ("missing_required_parameter", "messages[0].content[0].text"),
            ),
            (
                {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]},
                ("invalid_value", "messages[0].content[0].type"),
            ),
            (
                {"role": "system", "content": [{"type": "image_url", "image_url": "http://x"}]},
                ("invalid_value", "messages[0].content[0].type"),
            ),
            (
                {"role": "user", "content": [{"type": "image_url"}]},
                ("missing_required_parameter", "messages[0].content[0].image_url"),
            ),
            ({"role": "tool", "content": "x"}, ("missing_required_parameter", "messages[0].tool_call_id")),
            ({"role": "function", "content": "x"}, ("missing_required_parameter", "messages[0].name")),
            (
                {"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]},
                ("missing_required_parameter", "messages[0].tool_calls[0].function"),
            ),
            (
                {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]},
                ("missing_required_parameter", "messages[0].tool_calls[0].custom"),
            ),
        ):
            self.assertEqual(self.refused(message), said, message)

    def test_noneAtAll(self) -> None:
        """
        A conversation has at least one message.
        """
        self.assertEqual(self.refused(), ("invalid_value", "messages"))

    def test_notAList(self) -> None:
        """
        Something else than a list.
        """
        error = self.assertRaises(APIError, messagesFromObject, "hello")
        self.assertEqual((error.name, error.param), ("invalid_type", "messages"))

    def test_tooMany(self) -> None:
        """
        (C24) The bound is checked before they are looked at.
        """
        self.assertEqual(self.refused(*[[]] * (MAX_MESSAGES + 1)), ("invalid_value", "messages"))

    def test_contentMayBeNullAbsentOrEmpty(self) -> None:
        """
        Null and absent mean the same, and nothing was said.
        """
        found = messagesFromObject(
            [{"role": "assistant", "content": None}, {"role": "assistant"}, {"role": "user", "content": ""}]
        )
        self.assertEqual([(message.text, message.parts) for message in found], [("", ())] * 3)

    def test_parts(self) -> None:
        """
        Aliases of text count, reasoning that comes back is not read, unknown
        members do no harm.
        """
        [message] = messagesFromObject(
            [
                {
                    "role": "assistant",
                    "reasoning_content": "hmm",
                    "content": [
                        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                        {"type": "input_text", "text": "b"},
                        {"type": "output_text", "text": "c"},
                        {"type": "refusal", "refusal": "d"},
                        {"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}},
                    ],
                }
            ]
        )
        self.assertEqual(message.text, "abcd")
        self.assertEqual(len(message.parts), 5)

    def test_textAsOnePart(self) -> None:
        """
        A plain string and one part say the same.
        """
        [message] = messagesFromObject([{"role": "user", "content": "hi"}])
        self.assertEqual((message.parts, message.text), ((Part("text", "hi"),), "hi"))

    def test_callsOfBothShapes(self) -> None:
        """
        The deprecated call comes last.
        """
        [message] = messagesFromObject(
            [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
                        {"id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}},
                    ],
                    "function_call": {"name": "h", "arguments": ""},
                }
            ]
        )
        calls = list(callsOf(message))
        self.assertEqual([call.id for call in calls], ["1", "2", None])
        self.assertEqual(list(callsOf(messagesFromObject([{"role": "assistant"}])[0])), [])
        assert calls[2].function is not None
        self.assertEqual(calls[2].function.name, "h")

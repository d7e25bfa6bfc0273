"""
Messages of a request.
"""

from __future__ import annotations

import json
from typing import Any

from openai_server.api.chat.messages import ROLES
from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Call, Media, Message
from openai_server.api.rules import MAX_MESSAGES
from openai_server.errors import APIError
from tests.support import SyncCase


def messagesFrom(messages: Any) -> tuple[Message, ...]:
    """
    What a request with these messages says.
    """
    return inquiryFromBody(json.dumps({"model": "m", "messages": messages}).encode()).messages


class MessageTests(SyncCase):
    """
    L{messagesFromBody<openai_server.api.chat.messages.messagesFromBody>}.
    """

    def refused(self, *messages: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that messages bring.
        """
        error = self.assertRaises(APIError, messagesFrom, list(messages))
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_everyRole(self) -> None:
        """
        All of OpenAI's roles pass, the deprecated one too.
        """
        extra = {"tool": {"tool_call_id": "c"}, "function": {"name": "f"}}
        found = messagesFrom([{"role": role, "content": "x", **extra.get(role, {})} for role in ROLES])
        self.assertEqual([message.role for message in found], ["system", *ROLES[1:-1], "tool"])

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
                {"role": "user", "content": [{"type": "hologram", "hologram": {"url": "x"}}]},
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
        error = self.assertRaises(APIError, messagesFrom, "hello")
        self.assertEqual((error.name, error.param), ("invalid_type", "messages"))

    def test_tooMany(self) -> None:
        """
        (C24) The bound is checked before they are looked at.
        """
        self.assertEqual(self.refused(*[[]] * (MAX_MESSAGES + 1)), ("invalid_value", "messages"))

    def test_contentMayBeNullAbsentOrEmpty(self) -> None:
        """
        Null and absent mean the same, and nothing was said, where the
        assistant says it, with calls or without.
        """
        call = {"id": "c", "function": {"name": "f"}}
        nothing: tuple[dict[str, Any], ...] = ({}, {"content": None}, {"content": ""}, {"content": []})
        found = messagesFrom(
            [
                *({"role": "assistant", **said} for said in nothing),
                {"role": "assistant", "tool_calls": [call]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "function", "name": "f", "content": None},
                {"role": "user", "content": ""},
            ]
        )
        self.assertEqual([(message.text, message.parts) for message in found], [("", ())] * 8)

    def test_contentThatIsMissing(self) -> None:
        """
        Users and systems say something.
        """
        for role in ("user", "system", "developer"):
            for said in ({}, {"content": None}):
                self.assertEqual(
                    self.refused({"role": "user", "content": "x"}, {"role": role, **said}),
                    ("missing_required_parameter", "messages[1].content"),
                )

    def test_partsOfOtherServers(self) -> None:
        """
        What the assistant is shown to have said in parts of unknown types is
        kept where it is text, reasoning is not, and nothing is refused;
        others' parts are.
        """
        odd: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "reasoning", "text": "hm", "file": 3},
            {"type": "reasoning", "text": ["hm"], "refusal": {}},
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "markdown", "text": "b"},
        ]
        for parts in (odd, [{"type": "reasoning", "text": "hm"}, {"type": "markdown", "text": "b"}]):
            said = [{"type": "text", "text": "a"}, *parts, {"type": "refusal", "refusal": "c"}]
            [message] = messagesFrom([{"role": "assistant", "content": said}])
            self.assertEqual(message.content, ("a", "b", "c"))
        for role in ("user", "system"):
            said = self.refused({"role": role, "content": odd[:1]})
            self.assertEqual(said, ("invalid_value", "messages[0].content[0].type"))

    def test_parts(self) -> None:
        """
        Aliases of text count, reasoning that comes back is not read, unknown
        members do no harm.
        """
        [message] = messagesFrom(
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
        image = Media("image", "http://x", "messages[0].content[4].image_url.url")
        self.assertEqual(message.parts, ("a", "b", "c", "d", image))
        self.assertTrue(message.hasMedia)

    def test_media(self) -> None:
        """
        Each kind, with the place of its data.
        """
        parts = [
            {"type": "image_url", "image_url": "http://x"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
            {"type": "file", "file": {"filename": "f", "file_data": "AA=="}},
            {"type": "video_url", "video_url": {"url": "http://y"}},
        ]
        [message] = messagesFrom([{"role": "user", "content": parts}])
        where = "messages[0].content"
        self.assertEqual(
            message.content,
            (
                Media("image", "http://x", f"{where}[0].image_url"),
                Media("audio", "AA==", f"{where}[1].input_audio.data", format="mp3"),
                Media("file", "AA==", f"{where}[2].file.file_data", name="f"),
                Media("video", "http://y", f"{where}[3].video_url.url"),
            ),
        )

    def test_mediaThatIsRefused(self) -> None:
        """
        Formats that nobody reads, and files that would have been uploaded.
        """
        for part, name, param in (
            ({"type": "input_audio"}, "missing_required_parameter", "input_audio"),
            (
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "ogg"}},
                "unsupported_value",
                "input_audio.format",
            ),
            ({"type": "file"}, "missing_required_parameter", "file"),
            ({"type": "file", "file": {"filename": "f"}}, "missing_required_parameter", "file.file_data"),
            ({"type": "file", "file": {"file_id": "f"}}, "unsupported_value", "file.file_id"),
        ):
            said = self.refused({"role": "user", "content": [part]})
            self.assertEqual(said, (name, f"messages[0].content[0].{param}"))

    def test_refusal(self) -> None:
        """
        It is what was said, behind what else was.
        """
        parts = [{"type": "text", "text": "a"}]
        for content, said in ((None, "no"), ("", "no"), ("a", ("a", "no")), (parts, ("a", "no"))):
            [message] = messagesFrom([{"role": "assistant", "content": content, "refusal": "no"}])
            self.assertEqual(message.content, said)

    def test_textAsOnePart(self) -> None:
        """
        A plain string and one part say the same.
        """
        [message] = messagesFrom([{"role": "user", "content": "hi"}])
        self.assertEqual((message.content, message.parts, message.text), ("hi", ("hi",), "hi"))
        self.assertFalse(message.hasMedia)

    def test_callsOfBothShapes(self) -> None:
        """
        The deprecated call comes last.
        """
        [message] = messagesFrom(
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
        self.assertEqual(
            message.calls,
            (Call("1", "f", '{"a":1}'), Call("2", "g", "x", "custom"), Call("", "h", "{}")),
        )
        self.assertEqual(messagesFrom([{"role": "assistant"}])[0].calls, ())

"""
Tests for L{openai_server.api.responses.input}: every kind of item.
"""

from __future__ import annotations

from typing import Any

from openai_server.api.inquiry import Call, Media, Message
from openai_server.api.responses.input import messagesFromInput
from openai_server.api.rules import MAX_MESSAGES
from openai_server.api.unread import UnreadNames
from openai_server.errors import APIError
from tests.support import SyncCase

USER = {"role": "user", "content": "hi"}


class InputTests(SyncCase):
    """
    L{messagesFromInput}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.unread = UnreadNames()

    def read(self, *items: Any) -> tuple[Message, ...]:
        """
        What these items say.
        """
        return messagesFromInput(items, self.unread)

    def refused(self, *items: Any) -> tuple[str, str | None]:
        """
        The code and param of the error that these bring.
        """
        error = self.assertRaises(APIError, self.read, *items)
        self.assertEqual(error.kind.status, 400)
        return error.name, error.param

    def test_plainText(self) -> None:
        """
        One message of the user's; none when it is empty.
        """
        self.assertEqual(messagesFromInput("hi", self.unread), (Message("user", "hi"),))
        self.assertEqual(messagesFromInput("", self.unread), ())

    def test_messages(self) -> None:
        """
        Of all roles, with and without their type, as a string or in parts.
        """
        text = {"type": "input_text", "text": "a"}
        self.assertEqual(
            self.read(
                {"role": "developer", "content": "be brief"},
                {"type": "message", "role": "system", "content": [text, text]},
                {**USER, "name": "ann", "phase": None},
                {"role": "user", "content": []},
                {"role": "assistant", "content": "yes", "phase": "commentary"},
                {"role": "user", "content": [text, {"type": "text", "text": ""}]},
            ),
            (
                Message("system", "be brief"),
                Message("system", ("a", "a")),
                Message("user", "hi", "ann"),
                Message("user", ()),
                Message("assistant", "yes"),
                Message("user", ("a", "")),
            ),
        )
        self.assertEqual(self.unread.all, ())

    def test_answersItems(self) -> None:
        """
        All items of one answer are one message; its reasoning and the worker's
        own tools say nothing.
        """
        text = {"type": "output_text", "text": "let me ", "annotations": [], "logprobs": []}
        own = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant"}
        call = {"type": "function_call", "id": "fc", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
        custom = {"type": "custom_tool_call", "call_id": "call_2", "name": "c", "input": "x"}
        found = self.read(
            USER,
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
            {**own, "content": [text]},
            {"type": "mcp_call", "id": "mcp_1", "name": "Bash", "server_label": "w", "arguments": ""},
            {**own, "content": [{**text, "text": "see"}, {"type": "refusal", "refusal": "!"}]},
            {**call, "status": "completed"},
            custom,
            {"type": "function_call_output", "call_id": "call_1", "output": "tree"},
            {"type": "custom_tool_call_output", "id": "x", "call_id": "call_2", "output": [text]},
            {"type": "function_call_output", "call_id": "call_3", "output": None},
            {"type": "function_call", "name": "g", "arguments": {"b": 2}},
        )
        self.assertEqual(
            found,
            (
                Message("user", "hi"),
                Message(
                    "assistant",
                    ("let me ", "see", "!"),
                    calls=(Call("call_1", "f", '{"a":1}'), Call("call_2", "c", "x", "custom")),
                ),
                Message("tool", "tree", callId="call_1"),
                Message("tool", ("let me ",), callId="call_2"),
                Message("tool", "", callId="call_3"),
                Message("assistant", (), calls=(Call("", "g", '{"b":2}'),)),
            ),
        )
        self.assertEqual(self.unread.all, ())

    def test_emptyAnswer(self) -> None:
        """
        It is a message all the same.
        """
        found = self.read(USER, {"role": "assistant", "content": ""}, {"role": "assistant", "content": None})
        self.assertEqual(found[1:], (Message("assistant", ()),))

    def test_media(self) -> None:
        """
        Images, files and sound, with the place of each.
        """
        sound = {"data": "AA==", "format": "mp3"}
        found = self.read(
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "data:x", "detail": "auto"},
                    {"type": "input_image", "image_url": {"url": "https://x"}},
                    {"type": "input_file", "file_data": "data:y", "filename": "a.pdf"},
                    {"type": "input_file", "file_url": "https://y"},
                    {"type": "input_audio", "input_audio": sound},
                ],
            },
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": [{"type": "input_image", "image_url": "data:z"}],
            },
        )
        where = "input[0].content"
        self.assertEqual(
            found[0].content,
            (
                Media("image", "data:x", f"{where}[0].image_url"),
                Media("image", "https://x", f"{where}[1].image_url.url"),
                Media("file", "data:y", f"{where}[2].file_data", name="a.pdf"),
                Media("file", "https://y", f"{where}[3].file_url"),
                Media("audio", "AA==", f"{where}[4].input_audio.data", format="mp3"),
            ),
        )
        self.assertEqual(found[1].content, (Media("image", "data:z", "input[1].output[0].image_url"),))

    def test_foreignItems(self) -> None:
        """
        Calls and results of kinds that only OpenAI has stay what they are;
        the rest is left out and named.
        """
        found = self.read(
            USER,
            {"type": "local_shell_call", "id": "x", "call_id": "c", "action": {"command": ["ls"]}},
            {"type": "local_shell_call_output", "call_id": "c", "output": "a"},
            {"type": "shell_call_output", "call_id": "d", "output": [{"stdout": "a"}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "compaction_trigger"},
            {"type": "web_search_call", "id": "ws_2"},
        )
        self.assertEqual(
            found[1:],
            (
                Message("assistant", (), calls=(Call("c", "local_shell", '{"action":{"command":["ls"]}}'),)),
                Message("tool", "a", callId="c"),
                Message("tool", '[{"stdout":"a"}]', callId="d"),
            ),
        )
        self.assertEqual(self.unread.all, ("input.web_search_call", "input.compaction_trigger"))

    def test_compactionThatNothingOpens(self) -> None:
        """
        Is never read as it stands.
        """
        sent = {"type": "compaction", "encrypted_content": "x"}
        error = self.assertRaises(APIError, self.read, USER, sent)
        self.assertEqual(error.param, "input[1].encrypted_content")

    def test_partsOfOtherServers(self) -> None:
        """
        Of an answer's parts that are not known the text is kept, and no
        reasoning.
        """
        parts = [
            {"type": "thinking", "text": "hm"},
            {"type": "citation", "text": "see"},
            {"type": "odd"},
        ]
        self.assertEqual(self.read({"role": "assistant", "content": parts}), (Message("assistant", "see"),))

    def test_unreadMembers(self) -> None:
        """
        They are named.
        """
        self.read({**USER, "mood": "good"})
        self.assertEqual(self.unread.all, ("input[0].mood",))

    def test_errors(self) -> None:
        """
        Each names the place.
        """

        def content(**part: Any) -> dict[str, Any]:
            return {"role": "user", "content": [part]}

        where = "input[0].content"
        absent = "missing_required_parameter"
        for item, (code, param) in (
            (5, ("invalid_type", "input[0]")),
            ({"type": 5}, ("invalid_type", "input[0].type")),
            ({"role": "tool", "content": "x"}, ("invalid_value", "input[0].role")),
            ({"role": "user"}, (absent, where)),
            ({"role": "user", "content": 5}, ("invalid_type", where)),
            (content(type="input_text"), (absent, f"{where}[0].text")),
            (content(type="refusal"), (absent, f"{where}[0].refusal")),
            (content(type="input_image"), (absent, f"{where}[0].image_url")),
            (content(type="input_image", file_id="f"), ("unsupported_value", f"{where}[0].file_id")),
            (content(type="input_file"), (absent, f"{where}[0].file_data")),
            (content(type="input_audio"), (absent, f"{where}[0].input_audio")),
            (
                content(type="input_audio", input_audio={"data": "", "format": "ogg"}),
                ("unsupported_value", f"{where}[0].input_audio.format"),
            ),
            (content(type="input_video"), ("invalid_value", f"{where}[0].type")),
            (
                {"role": "system", "content": [{"type": "input_image", "image_url": "x"}]},
                ("invalid_value", f"{where}[0].type"),
            ),
            ({"type": "function_call"}, (absent, "input[0].name")),
            ({"type": "function_call_output"}, (absent, "input[0].call_id")),
            ({"type": "item_reference", "id": "msg_1"}, ("invalid_value", "input[0].id")),
            ({"id": "msg_1"}, ("invalid_value", "input[0].id")),
        ):
            with self.subTest(item=item):
                self.assertEqual(self.refused(item), (code, param))
        self.assertEqual(self.refused(*[5] * (MAX_MESSAGES + 1)), ("invalid_value", "input"))

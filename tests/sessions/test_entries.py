"""
When a message that is sent again is the same message.
"""

from __future__ import annotations

from openai_server.api.messages import (
    Audio,
    CustomCall,
    File,
    FunctionCall,
    Image,
    Message,
    Part,
    ToolCall,
)
from openai_server.sessions.entries import Entry, answerEntry, callWithoutId, entriesFrom
from openai_server.sessions.ids import newPublicCallId
from tests.support import SyncCase


def call(callId: str | None, arguments: object = "{}", name: str = "f") -> ToolCall:
    """
    A call of a function.
    """
    return ToolCall(callId, "function", FunctionCall(name, arguments))


def image(url: str | Image) -> Part:
    """
    A part with an image.
    """
    return Part("image_url", image_url=url)


OURS = newPublicCallId()

SAME: list[tuple[Message, Message]] = [
    (Message("user", "hi"), Message("user", (Part("text", "hi"),))),
    (Message("user", "hi"), Message("user", (Part("text", "h"), Part("input_text", "i")))),
    (Message("user", " hi\n"), Message("user", "hi")),
    (Message("assistant", None), Message("assistant", "")),
    (Message("assistant", None), Message("assistant", ())),
    (Message("assistant", "no", name="bot"), Message("assistant", "no")),
    (Message("assistant", refusal="no"), Message("assistant", (Part("refusal", refusal="no"),))),
    (Message("developer", "be brief"), Message("system", "be brief")),
    (Message("tool", "1", name="f", tool_call_id="c"), Message("tool", "1", tool_call_id="c")),
    (
        Message("assistant", tool_calls=(call(OURS, '{"a": 1}'),)),
        Message("assistant", "", tool_calls=(call(OURS, '{"a":1}'),)),
    ),
    (Message("user", (image("data:a"),)), Message("user", (image(Image("data:a", "low")),))),
]

DIFFERENT: list[Message] = [
    Message("user", "hi"),
    Message("user", "Hi"),
    Message("user", "h i"),
    Message("user", "hi", name="ann"),
    Message("assistant", "hi"),
    Message("system", "hi"),
    Message("tool", "hi", tool_call_id="c"),
    Message("tool", "hi", tool_call_id="d"),
    Message("function", "hi", name="f"),
    Message("function", "hi", name="g"),
    Message("assistant", "hi", tool_calls=(call(OURS),)),
    Message("assistant", "hi", tool_calls=(call(newPublicCallId()),)),
    Message("assistant", "hi", tool_calls=(call("call_1", "{}"),)),
    Message("assistant", "hi", tool_calls=(call("call_1", "{} "),)),
    Message("assistant", "hi", tool_calls=(call("call_1", "{}", "g"),)),
    Message("assistant", "hi", tool_calls=(call(None),)),
    Message("assistant", "hi", tool_calls=(call("call_1"), call("call_2"))),
    Message("assistant", "hi", tool_calls=(ToolCall("call_1", "custom", None, CustomCall("c", "in")),)),
    Message("user", (Part("text", "hi"), image("data:a"))),
    Message("user", (Part("text", "hi"), image("data:b"))),
    Message("user", (image("data:a"), Part("text", "hi"))),
    Message("user", (Part("text", "hi"), Part("input_audio", input_audio=Audio("AA", "wav")))),
    Message("user", (Part("text", "hi"), Part("file", file=File(file_data="AA")))),
]


class EntryTests(SyncCase):
    def test_whatClientsChange(self) -> None:
        """
        What clients are known to change when they send a message again does
        not make another one of it.
        """
        for one, other in SAME:
            self.assertEqual(entriesFrom([one]), entriesFrom([other]))

    def test_whatCounts(self) -> None:
        """
        Every other difference makes another entry.
        """
        entries = entriesFrom(DIFFERENT)
        for at, entry in enumerate(entries):
            self.assertNotIn(entry, entries[at + 1 :], DIFFERENT[at])

    def test_imagesAreNotKept(self) -> None:
        """
        An image of a megabyte leaves a digest.
        """
        entry = entriesFrom([Message("user", (image("data:" + "A" * 2**20),))])[0]
        self.assertLess(len(entry.text), 100)

    def test_answerIsWhatComesBack(self) -> None:
        """
        An answer's entry equals that of the message a client makes of it.
        """
        back = Message("assistant", "Let me see.", tool_calls=(call(OURS, '{"other": "spelling"}'),))
        self.assertEqual(entriesFrom([back]), [answerEntry("Let me see.\n", [OURS])])

    def test_answerInTheDeprecatedShape(self) -> None:
        """
        A C{function_call} is named by its name and arguments.
        """
        back = Message("assistant", function_call=FunctionCall("f", '{"a":1}'))
        self.assertEqual(entriesFrom([back]), [answerEntry("", [callWithoutId("f", '{"a":1}')])])

    def test_resultInTheDeprecatedShape(self) -> None:
        """
        A function's message keeps the name.
        """
        self.assertEqual(
            entriesFrom([Message("function", "1", name="f")]), [Entry("function", "1", (), None, "f")]
        )

    def test_argumentsThatAreNoString(self) -> None:
        """
        A foreign call with an object for arguments is met as well, whatever
        the order of its members.
        """
        self.assertEqual(callWithoutId("f", {"a": 1, "b": 2}), callWithoutId("f", {"b": 2, "a": 1}))

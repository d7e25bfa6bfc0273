"""
When a message that is sent again is the same message.
"""

from __future__ import annotations

from openai_server.api.inquiry import Call, Media, Message
from openai_server.sessions.entries import Entry, answerEntry, callWithoutId, entriesFrom
from openai_server.sessions.ids import newPublicCallId
from tests.support import SyncCase

OURS = newPublicCallId()


def image(source: str, param: str = "here") -> Media:
    """
    A part with an image.
    """
    return Media("image", source, param)


SAME: list[tuple[Message, Message]] = [
    (Message("user", "hi"), Message("user", ("hi",))),
    (Message("user", "hi"), Message("user", ("h", "i"))),
    (Message("user", " hi\n"), Message("user", "hi")),
    (Message("assistant", ()), Message("assistant", "")),
    (Message("assistant", "no", name="bot"), Message("assistant", "no")),
    (Message("tool", "1", name="f", callId="c"), Message("tool", "1", callId="c")),
    (
        Message("assistant", calls=(Call(OURS, "f", '{"a": 1}'),)),
        Message("assistant", "", calls=(Call(OURS, "f", '{"a":1}'),)),
    ),
    (Message("user", (image("data:a"),)), Message("user", (image("data:a", "there"),))),
]

DIFFERENT: list[Message] = [
    Message("user", "hi"),
    Message("user", "Hi"),
    Message("user", "h i"),
    Message("user", "hi", name="ann"),
    Message("assistant", "hi"),
    Message("system", "hi"),
    Message("tool", "hi", callId="c"),
    Message("tool", "hi", callId="d"),
    Message("tool", "hi", name="f"),
    Message("tool", "hi", name="g"),
    Message("assistant", "hi", calls=(Call(OURS, "f", "{}"),)),
    Message("assistant", "hi", calls=(Call(newPublicCallId(), "f", "{}"),)),
    Message("assistant", "hi", calls=(Call("call_1", "f", "{}"),)),
    Message("assistant", "hi", calls=(Call("call_1", "f", "{} "),)),
    Message("assistant", "hi", calls=(Call("call_1", "g", "{}"),)),
    Message("assistant", "hi", calls=(Call("", "f", "{}"),)),
    Message("assistant", "hi", calls=(Call("call_1", "f", "{}"), Call("call_2", "f", "{}"))),
    Message("assistant", "hi", calls=(Call("call_1", "c", "in", "custom"),)),
    Message("user", ("hi", image("data:a"))),
    Message("user", ("hi", image("data:b"))),
    Message("user", (image("data:a"), "hi")),
    Message("user", ("hi", Media("audio", "AA", "here", format="wav"))),
    Message("user", ("hi", Media("file", "AA", "here"))),
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
        back = Message("assistant", "Let me see.", calls=(Call(OURS, "f", '{"other": "spelling"}'),))
        self.assertEqual(entriesFrom([back]), [answerEntry("Let me see.\n", [OURS])])

    def test_answerWithoutCallIds(self) -> None:
        """
        A call is named by its tool's name and arguments.
        """
        back = Message("assistant", calls=(Call("", "f", '{"a":1}'),))
        self.assertEqual(entriesFrom([back]), [answerEntry("", [callWithoutId("f", '{"a":1}')])])

    def test_resultWithoutCallId(self) -> None:
        """
        A result that answers no call id keeps its tool's name.
        """
        self.assertEqual(entriesFrom([Message("tool", "1", name="f")]), [Entry("tool", "1", (), None, "f")])

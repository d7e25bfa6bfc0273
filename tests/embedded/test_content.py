"""
Tests of what the embedded models read in a content: the transcript's form is
the one that L{openai_server.translate.transcript} makes.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.inquiry import Call, Message
from openai_server.embedded.content import givenResults, lastUserText
from openai_server.translate.transcript import joined, transcript
from tests.embedded.bees import definition
from tests.embedded.worlds import World
from tests.support import SyncCase

CALL = Message("assistant", calls=(Call("c1", "get", "{}"),))


def contentOf(*messages: Message) -> str:
    """
    A history as it reaches a worker.
    """
    return joined(transcript(messages, "boundary7"), lambda attached: "")


class ContentTests(SyncCase):
    """
    L{lastUserText} and L{givenResults}.
    """

    @settings(deadline=None, max_examples=60)
    @given(st.text(), st.text())
    def test_theLastUserTextOfATranscript(self, first: str, last: str) -> None:
        """
        Byte for byte, whatever was said before and after.
        """
        history = [Message("user", first), Message("assistant", "yes"), Message("user", last, name="me")]
        self.assertEqual(lastUserText(contentOf(*history)), last)
        self.assertEqual(lastUserText(contentOf(*history, Message("assistant", "and"))), last)

    def test_aSingleMessageIsTheText(self) -> None:
        """
        Also when it looks a little like a transcript.
        """
        for text in ("hello", "", "[x user]\nhi\n\n[x end]\n", "\n\n[x end]\nAnswer", "#script []"):
            self.assertEqual((lastUserText(text), givenResults(text)), (text, []))

    def test_resultsAtTheEnd(self) -> None:
        """
        With the names of their tools; earlier ones do not count.
        """
        results = [Message("tool", "rain", callId="c1"), Message("tool", "snow", callId="other")]
        content = contentOf(Message("user", "weather?"), CALL, *results)
        self.assertEqual(givenResults(content), [("get", "rain"), ("a tool", "snow")])
        content = contentOf(Message("user", "weather?"), CALL, *results, Message("user", "and?"))
        self.assertEqual(givenResults(content), [])

    def test_aToolModelDoesNotCallAgainForResults(self) -> None:
        """
        A fresh turn made from a transcript with the result ends with it.
        """
        result = Message("tool", "rain", callId="c1")
        content = contentOf(Message("user", "weather?"), CALL, result)
        bee = World(self).ask(content, "tool-one", tools=[definition("get")])
        self.assertEqual((bee.text("s1"), bee.chis("tool-call")), ("get says: rain\n", []))

    def test_echoOfATranscript(self) -> None:
        """
        Only the last user's words come back.
        """
        content = contentOf(Message("user", "one"), Message("assistant", "one"), Message("user", "two three"))
        self.assertEqual(World(self).ask(content, "echo").text("s1"), "two three")

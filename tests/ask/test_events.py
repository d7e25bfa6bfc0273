"""
Bytes of an event stream to the text of an answer.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.ask import events
from openai_server.ask.events import Answer, AskError, EventParser
from tests.ask.streams import DONE, WHOLE, chunk
from tests.support import SyncCase


class EventParserTests(SyncCase):
    """
    Bytes of an event stream to the data of its events.
    """

    def test_shapesOfEvents(self) -> None:
        """
        What the format allows around the data is understood and left out.
        """
        for received, expected in [
            (b"data: a\n\n", ["a"]),
            (b"data:a\n\n", ["a"]),
            (b"data:  a\n\n", [" a"]),
            (b"data: a\r\n\r\n", ["a"]),
            (b"data: a\r\rdata: b\r\r", ["a", "b"]),
            (b"data: a\ndata: b\n\n", ["a\nb"]),
            (b"data: a\r\ndata: b\r\n\r\n", ["a\nb"]),
            (b"data: \n\n", [""]),
            (b"data\n\n", [""]),
            (b": comment\n\ndata: a\n\n", ["a"]),
            (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"]),
            (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
            (b"\n\n\ndata: a\n\n\n", ["a"]),
            (b"data: a\n", []),
            (b"data: a", []),
            (b"", []),
            ("data: né — 🌍\n\n".encode(), ["né — 🌍"]),
            (b"data: a\xff\n\n", ["a\ufffd"]),
            ("data: a\u2028b\x0bc\x85\n\n".encode(), ["a\u2028b\x0bc\x85"]),
        ]:
            with self.subTest(received=received):
                self.assertEqual(EventParser().feed(received), expected)

    @given(
        st.lists(
            st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), min_size=1)
        ),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.lists(st.integers(1, 9), max_size=40),
    )
    @settings(deadline=None, max_examples=150)
    def test_anySplit(self, written: list[list[str]], newline: str, sizes: list[int]) -> None:
        """
        However the bytes are cut, the same events come out.
        """
        lines = [[": note", *(f"data: {line}" for line in event), "", ""] for event in written]
        whole = "".join(newline.join(event) for event in lines).encode()
        parser = EventParser()
        found: list[str] = []
        for size in sizes:
            found += parser.feed(whole[:size])
            whole = whole[size:]
        found += parser.feed(whole)
        self.assertEqual(found, ["\n".join(event) for event in written])

    def test_lineEndInTwoReads(self) -> None:
        """
        A carriage return and its newline are one line's end, whenever they come.
        """
        parser = EventParser()
        pieces = [b"data: a\r", b"", b"\ndata: b\r", b"\n\r", b"\n"]
        self.assertEqual([parser.feed(piece) for piece in pieces], [[], [], [], ["a\nb"], []])

    def test_endlessEvent(self) -> None:
        """
        A line or an event without an end is refused at its bound, not stored.
        """
        self.patch(events, "MAX_EVENT", 1000)
        for piece in [b"data: " + b"x" * 94, b"data: " + b"x" * 93 + b"\n"]:
            with self.subTest(piece=piece):
                parser = EventParser()
                for _ in range(10):
                    parser.feed(piece)
                self.assertRaises(AskError, parser.feed, piece)

    def test_boundIsOfOneEvent(self) -> None:
        """
        A long stream of short events never meets the bound.
        """
        self.patch(events, "MAX_EVENT", 1000)
        parser = EventParser()
        self.assertEqual([parser.feed(b"data: " + b"x" * 90 + b"\n\n") for _ in range(50)], [["x" * 90]] * 50)


class AnswerTests(SyncCase):
    """
    The events of one stream to its text.
    """

    def setUp(self) -> None:
        super().setUp()
        self.texts: list[str] = []
        self.answer = Answer(self.texts.append)

    def test_textUntilDone(self) -> None:
        """
        The text comes piece by piece, and C{[DONE]} makes it whole.
        """
        self.assertFalse(self.answer.receive(WHOLE.removesuffix(DONE)))
        self.assertFalse(self.answer.isWhole)
        self.assertTrue(self.answer.receive(DONE))
        self.assertTrue(self.answer.isWhole)
        self.assertEqual(self.texts, ["pi", "ng"])
        self.assertEqual(self.answer.finishReason, "stop")

    def test_eventsWithoutText(self) -> None:
        """
        Keep-alives, usage, reasoning and nulls show nothing.
        """
        self.answer.receive(
            chunk()
            + chunk(content=None, refusal=None)
            + chunk(reasoning_content="hm")
            + b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
            + b'data: {"error":null,"choices":[]}\n\n'
        )
        self.assertEqual(self.texts, [])

    def test_refusalIsText(self) -> None:
        """
        What the model says in refusing is shown.
        """
        self.answer.receive(chunk(refusal="No."))
        self.assertEqual(self.texts, ["No."])

    def test_errorInTheStream(self) -> None:
        """
        An error event is raised, whatever shape its error has, after the text
        before it was shown.
        """
        for reported, said in [
            ({"message": "it died", "type": "server_error", "code": "lost"}, "it died (lost)"),
            ({"message": "it died", "code": None}, "it died"),
            ("it died", "it died"),
            ({"detail": 5}, "{'detail': 5}"),
        ]:
            with self.subTest(reported=reported):
                texts: list[str] = []
                event = b"data: " + json.dumps({"error": reported}).encode() + b"\n\n"
                received = chunk(content="a") + event + DONE
                found = self.assertRaises(AskError, Answer(texts.append).receive, received)
                self.assertEqual(str(found), said)
                self.assertEqual(texts, ["a"])

    def test_eventsThatAreNoChunks(self) -> None:
        """
        Anything else than a chunk is an error, not a silent gap.
        """
        for data in [b"", b"{", b"[]", b"5", b'{"choices":5}', b'{"choices":[{"delta":{"content":5}}]}']:
            with self.subTest(data=data):
                found = self.assertRaises(AskError, Answer(print).receive, b"data: %s\n\n" % data)
                self.assertIn("no chunk", str(found))

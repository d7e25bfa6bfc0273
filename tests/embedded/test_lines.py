"""
Tests of the lines that the embedded daemon reads and makes.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.embedded.lines import TurnLines, toneFromLine
from tests.machinery.steps import PartLines
from tests.support import SyncCase


class ReadingTests(SyncCase):
    """
    L{toneFromLine}.
    """

    def test_tonesAreRead(self) -> None:
        """
        An object with a C{chi} is a tone, whatever else it holds.
        """
        for line in (b'{"chi":"log"}', b' {"chi":"log","x":123456789012345678901234567890} \r'):
            self.assertIsNotNone(toneFromLine(line), line)

    def test_whatTheDaemonCannotParseIsDropped(self) -> None:
        """
        Each of these lines was dropped by the real daemon.
        """
        for line in (
            b"",
            b"hello",
            b"[1]",
            b"{}",
            b'{"chi":""}',
            b'{"chi":5}',
            b'{"chi":"log","x":NaN}',
            b'{"chi":"log","x":1e400}',
            b'{"chi":"log","x":[{"y":1' + b"0" * 400 + b"}]}",
            b'{"chi":"log","x":"\\ud83d"}',
            b'\xef\xbb\xbf{"chi":"log"}',
            b'{"chi":"log"',
        ):
            self.assertIsNone(toneFromLine(line), line)

    def test_nestingOf127IsReadAnd128Dropped(self) -> None:
        """
        The tone's own object counts; brackets in strings do not.
        """
        for levels, isRead in ((126, True), (127, False), (5000, False)):
            line = b'{"chi":"log","x":' + b"[" * levels + b"]" * levels + b"}"
            self.assertEqual(toneFromLine(line) is not None, isRead, levels)
        self.assertIsNotNone(toneFromLine(b'{"chi":"log","x":"' + b"[" * 200 + b'"}'))

    def test_notUTF8Raises(self) -> None:
        """
        The caller closes the connection then.
        """
        self.assertRaises(UnicodeDecodeError, toneFromLine, b'{"chi":"log","x":"\xff"}')


class WritingTests(SyncCase):
    """
    L{TurnLines}.
    """

    @settings(deadline=None, max_examples=50)
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
    def test_deltasAreOneLineWithTheSameText(self, text: str) -> None:
        """
        Any text goes out as one line of JSON, in both dialects.
        """
        lines = TurnLines("s1")
        (own,) = lines.deltas("text", 3, [text])
        (other,) = PartLines("s1").deltas("reasoning", 3, [text])
        self.assertEqual((own.count(b"\n"), other.count(b"\n")), (1, 1))
        self.assertEqual(json.loads(own)["delta"], text)
        self.assertEqual(json.loads(other)["part"], {"type": "reasoning", "text": text})

    def test_templatesAreLikeOtherTones(self) -> None:
        """
        A delta made from the template is what a tone with its members is.
        """
        lines = TurnLines("s1")
        members = {"chi": "chunk", "chunkType": "text_delta", "blockIdx": 3, "delta": "é"}
        self.assertEqual(lines.deltas("text", 3, ["é"]), [lines.stamped(members)])

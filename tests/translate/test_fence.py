"""
Fences around JSON.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.translate.fence import FenceStrip
from tests.support import SyncCase

SNIPPETS = st.sampled_from(["```", "json", "\n", " ", '{"a":1}', "`", "x", "\r\n", "[", "\t", "`" * 4])


def withoutFence(text: str) -> str:
    """
    What comes out of a text in one piece.
    """
    strip = FenceStrip()
    return strip.feed(text) + strip.finish()


class WithoutFenceTests(SyncCase):
    """
    L{FenceStrip} with whole texts.
    """

    def test_table(self) -> None:
        """
        Surrounding fences go, everything else stays to the letter.
        """
        for text, bare in (
            ('```json\n{"a":1}\n```', '{"a":1}'),
            ('\n  ```JSON  \r\n{"a":1}\r\n```\n\n', '{"a":1}'),
            ('```{"a":1}```', '{"a":1}'),
            ("```\n[1]\n", "[1]\n"),
            ('{"a":"```json"}', '{"a":"```json"}'),
            ('  {"a":1}\n', '  {"a":1}\n'),
            ('```json\n{"a":"``` x"}\n```', '{"a":"``` x"}'),
            ("Here:\n```json\n{}\n```", "Here:\n```json\n{}\n```"),
            ("```json\n{}\n```\nHope it helps", "{}\n```\nHope it helps"),
            ("```json\n{}\n````", "{}\n````"),
            ("```json\n{}\n``", "{}\n``"),
            ("```", "```"),
            ("``", "``"),
            ("", ""),
            ("   ", "   "),
            ("```not a fence at all", "```not a fence at all"),
            (" " * 500 + "```json\n{}\n```", " " * 500 + "```json\n{}\n```"),
        ):
            self.assertEqual(withoutFence(text), bare, text)


class FenceStripTests(SyncCase):
    """
    L{FenceStrip}: texts in pieces.
    """

    @settings(deadline=None, max_examples=400)
    @given(st.lists(SNIPPETS, max_size=14), st.lists(st.integers(0, 40), max_size=6))
    def test_cutsDoNotMatter(self, snippets: list[str], cuts: list[int]) -> None:
        """
        A text in pieces comes out as the whole text does.
        """
        text = "".join(snippets)
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        strip = FenceStrip()
        out = "".join(strip.feed(text[a:b]) for a, b in pairwise(edges))
        self.assertEqual(out + strip.finish(), withoutFence(text))

    @settings(deadline=None, max_examples=200)
    @given(st.text(st.characters(exclude_characters="`"), max_size=60))
    def test_textWithoutTicksIsUntouched(self, text: str) -> None:
        """
        Nothing is trimmed or lost.
        """
        self.assertEqual(withoutFence(text), text)

    def test_onlyTheLeadIsHeldBack(self) -> None:
        """
        Text that begins with no fence flows at once, also later blanks.
        """
        strip = FenceStrip()
        pieces = [" ", "{", "\n", " ", "```", "}"]
        self.assertEqual([strip.feed(piece) for piece in pieces], ["", " {", "\n", " ", "```", "}"])

    def test_insideAFenceOnlyTheEndIsHeldBack(self) -> None:
        """
        Blanks wait for what follows, ticks too.
        """
        strip = FenceStrip()
        pieces = ["```json\n", "{", "\n", "}", "\n``", "`"]
        self.assertEqual([strip.feed(piece) for piece in pieces], ["", "{", "", "\n}", "", ""])
        self.assertEqual(strip.finish(), "")

    def test_longRunOfTicksIsNoFence(self) -> None:
        """
        Wherever it is cut, also within the three ticks that it ends with.
        """
        for cut in range(1, 8):
            strip = FenceStrip()
            run = "`" * 8 + "\n"
            out = strip.feed("```\n{}" + run[:cut]) + strip.feed(run[cut:]) + strip.finish()
            self.assertEqual(out, "{}" + run)

    def test_heldTextIsBounded(self) -> None:
        """
        A flood of blanks does not pile up.
        """
        strip = FenceStrip()
        strip.feed("```json\n{")
        out = "".join(strip.feed(" " * 10) for _ in range(1000))
        self.assertTrue(10_000 - len(out) <= 200)

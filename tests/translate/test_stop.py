"""
Stop strings in text that comes in pieces.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.translate.stop import StopSearch
from tests.support import SyncCase

LETTERS = st.text(st.sampled_from("ab\U0001f600"), max_size=12)
STOPS = st.lists(st.text(st.sampled_from("ab\U0001f600"), min_size=1, max_size=4), min_size=1, max_size=3)


def searched(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    """
    What comes out of a search, and whether a stop string was found.
    """
    search = StopSearch(stops)
    out = "".join(map(search.feed, pieces))
    return out + search.finish(), search.isStopped


class StopSearchTests(SyncCase):
    """
    L{StopSearch}.
    """

    @settings(deadline=None, max_examples=300)
    @given(st.text(st.sampled_from("ab"), min_size=1, max_size=4), st.lists(LETTERS, max_size=8))
    def test_oneStringAgainstFind(self, stop: str, pieces: list[str]) -> None:
        """
        However the text is cut, it ends where C{str.find} says.
        """
        text = "".join(pieces)
        at = text.find(stop)
        self.assertEqual(searched([stop], pieces), (text if at < 0 else text[:at], at >= 0))

    @settings(deadline=None, max_examples=300)
    @given(STOPS, st.lists(LETTERS, max_size=8))
    def test_severalEndAtTheFirstThatIsComplete(self, stops: list[str], pieces: list[str]) -> None:
        """
        Against a reader that looks after every character.
        """
        text = "".join(pieces)
        expected, isStopped = text, False
        for end in range(len(text) + 1):
            matching = [stop for stop in stops if text[:end].endswith(stop)]
            if matching:
                expected, isStopped = text[: end - max(map(len, matching))], True
                break
        self.assertEqual(searched(stops, pieces), (expected, isStopped))

    @settings(deadline=None, max_examples=200)
    @given(STOPS, st.lists(LETTERS, max_size=8))
    def test_holdsBackOnlyWhatMayBecomeAStopString(self, stops: list[str], pieces: list[str]) -> None:
        """
        What is held back is always the beginning of a stop string: text is
        not kept from the client longer than needed.
        """
        search, fed, given_ = StopSearch(stops), "", ""
        for piece in pieces:
            fed += piece
            given_ += search.feed(piece)
            if search.isStopped:
                break
            held = fed[len(given_) :]
            self.assertTrue(fed.startswith(given_))
            self.assertTrue(not held or any(s.startswith(held) and s != held for s in stops))

    def test_nothingAfterTheMatch(self) -> None:
        """
        Later pieces are dropped, and nothing is held.
        """
        search = StopSearch(["END"])
        self.assertEqual([search.feed(piece) for piece in ("a E", "N", "D b", "c")], ["a ", "", "", ""])
        self.assertEqual(search.finish(), "")

    def test_heldTextIsGivenAtTheEnd(self) -> None:
        """
        A beginning that was none comes out, once.
        """
        search = StopSearch(["END"])
        self.assertEqual(search.feed("xEN"), "x")
        self.assertEqual((search.finish(), search.finish()), ("EN", ""))

# -*- test-case-name: tests.translate.test_stop -*-
"""
Stop strings in text that comes in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopSearch:
    """
    Cuts a text at the first stop string that is complete, wherever the pieces
    are cut: what could be the beginning of one is held back.

    Of two stop strings that end at the same place, the longer one counts.

    @ivar isStopped: a stop string was found; nothing more is let through.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """
        @param stop: the strings, none of them empty.
        """
        self._stop = tuple(stop)
        self._firsts = {each[0] for each in stop}
        self._longest = max(map(len, stop), default=0)
        self._held = ""
        self.isStopped = False

    def feed(self, text: str) -> str:
        """
        Take a piece, and give what certainly stands before any stop string.
        """
        if self.isStopped:
            return ""
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.isStopped = True
            self._held = ""
            return text[: min(ends)[1]]
        kept = self._beginning(text)
        self._held = text[kept:]
        return text[:kept]

    def _beginning(self, text: str) -> int:
        # Where the longest end of the text begins that begins a stop string.
        start = max(0, len(text) - self._longest + 1)
        for at in range(start, len(text)):
            if text[at] in self._firsts:
                end = text[at:]
                if any(stop.startswith(end) for stop in self._stop):
                    return at
        return len(text)

    def finish(self) -> str:
        """
        What was held back: the text is over and no stop string was in it.
        """
        held, self._held = self._held, ""
        return held

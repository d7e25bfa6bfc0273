# -*- test-case-name: tests.translate.test_fence -*-
"""
The Markdown fence that models put around JSON that was asked for bare.
"""

from __future__ import annotations

import re
from typing import Final

#: Characters that are held back at most.
_LONGEST: Final = 200

#: A whole leading fence: white space, the ticks, an info string, the line's
#: end, or at once the JSON.
_opening = re.compile(r"\s*```[A-Za-z0-9_+-]*[ \t]*(?:\r?\n|(?=[{\[]))")
#: What may still become one.
_maybeOpening = re.compile(r"\s*(?:`{0,2}|```[A-Za-z0-9_+-]*[ \t]*\r?)")
_blank = " \t\r\n"
_FENCE: Final = "```"


class FenceStrip:
    """
    Takes a surrounding fence off a text that comes in pieces. Only a leading
    fence with its white space, and what may be the trailing one, are held
    back; a text that does not begin with a fence passes unchanged.
    """

    def __init__(self) -> None:
        self._held = ""
        self._isOpen = True
        self._isFenced = False
        self._isInTicks = False

    def feed(self, text: str) -> str:
        """
        Take a piece, and give what is certainly not a fence.
        """
        if self._isOpen:
            text = self._pastOpening(self._held + text)
        elif not self._isFenced:
            return text
        return self._beforeClosing(text) if self._isFenced else text

    def _pastOpening(self, text: str) -> str:
        found = _opening.match(text, 0, _LONGEST)
        if found is None and len(text) < _LONGEST and _maybeOpening.fullmatch(text):
            self._held = text
            return ""
        self._held = ""
        self._isOpen = False
        self._isFenced = found is not None
        return text[found.end() :] if found else text

    def _beforeClosing(self, text: str) -> str:
        text = self._held + text
        kept = max(len(_withoutFence(text, self._isInTicks)), len(text) - _LONGEST)
        self._held = text[kept:]
        if kept:
            self._isInTicks = text[kept - 1] == "`"
        return text[:kept]

    def finish(self) -> str:
        """
        What was held back and is no fence: the text is over.
        """
        held, self._held = self._held, ""
        return "" if self._isFenced and _FENCE in held else held


def _withoutFence(text: str, isInTicks: bool) -> str:
    # The text before what is, or may become, the end: white space, up to
    # three ticks, white space. More ticks are no fence, nor are some that go
    # on from those before the text.
    bare = text.rstrip(_blank)
    ticks = len(bare) - len(bare.rstrip("`"))
    if ticks > len(_FENCE) or (isInTicks and ticks == len(bare)):
        return bare
    return bare[: len(bare) - ticks].rstrip(_blank)

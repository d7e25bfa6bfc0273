"""
What the load asks for in the text of a prompt, and the answer to it.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_SPELLING = re.compile(rb"tag=(\w+) tokens=(\d+) rate=(\d+) held=([01]);")
_TIME = re.compile(r"@\d+;")

#: Microseconds of the monotonic clock in a paced token as it is on the wire.
TIME_ON_WIRE = re.compile(rb"@(\d+);")

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Question:
    """
    Ask for this many tokens.

    @ivar tag: stands in each token, and in no other question's.
    @ivar rate: tokens a second; 0 is as fast as they are read.
    @ivar isHeld: only the first token comes until another question whose rate
        is 0 and which asks for no tokens: that one releases all that are held.
    """

    tag: str
    tokens: int
    rate: int = 0
    isHeld: bool = False

    @property
    def text(self) -> str:
        """
        The prompt.
        """
        return f"tag={self.tag} tokens={self.tokens} rate={self.rate} held={self.isHeld:d};"

    def delta(self, number: int, microseconds: int | None = None) -> str:
        """
        The text of one token. In each eighth is a character that is not ASCII
        and one that JSON escapes, so that both are in every measurement.

        @param microseconds: when the daemon sent it, in a paced answer.
        """
        time = "" if microseconds is None else f"@{microseconds};"
        rare = 'é"' if number % 8 == 0 else ""
        return f" {self.tag}{number:05d}{time}{rare}"

    def isAnsweredBy(self, text: str) -> bool:
        """
        Every token is there once, in order, and nothing else is.
        """
        return _TIME.sub("", text) == "".join(map(self.delta, range(self.tokens)))


def fresh(tokens: int, rate: int = 0, isHeld: bool = False) -> Question:
    """
    A question with a tag that was never used in this process.
    """
    return Question(f"q{next(_numbers):06d}x", tokens, rate, isHeld)


def questionFromPrompt(prompt: bytes) -> Question:
    """
    The question in a prompt's line or text.

    @raise ValueError: there is none.
    """
    found = _SPELLING.search(prompt)
    if found is None:
        raise ValueError("this daemon answers the questions of the benchmarks alone")
    tag, tokens, rate, held = found.groups()
    return Question(tag.decode(), int(tokens), int(rate), held == b"1")

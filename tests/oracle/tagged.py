"""
Text that says of itself where it belongs: each delta names its answer, its
place there, and a checksum of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import PlayedTurn, Step, Wait
from tests.machinery.steps import Exit, Fail


def delta(tag: str, number: int, padding: int = 0) -> str:
    """
    One delta: without a space, but for the one at its end.

    @param padding: further characters.
    """
    said = f"{tag}.{number}.{'x' * padding}"
    return f"{said}.{crc32(said.encode()):08x} "


def text(tag: str, count: int, padding: int = 0) -> str:
    """
    All deltas of an answer.
    """
    return "".join(delta(tag, number, padding) for number in range(count))


class NotItsOwn(AssertionError):
    """
    A client was given something else than the text of its answer.
    """


def count(tag: str, said: str) -> int:
    """
    How many deltas of this answer a text has, from the first one on.

    @raise NotItsOwn: it is anything else than a prefix of that answer.
    """
    number = 0
    for piece in said.split(" ")[:-1]:
        own, place, padding, checksum = piece.split(".") if piece.count(".") == 3 else ("", "", "", "")
        sound = f"{crc32(f'{own}.{place}.{padding}'.encode()):08x}" == checksum
        if not sound or own != tag or place != str(number):
            raise NotItsOwn(f"{piece[:80]!r} at place {number} of answer {tag}")
        number += 1
    if said and not said.endswith(" "):
        raise NotItsOwn(f"{said[-80:]!r} at the end of answer {tag}")
    return number


@dataclass(frozen=True)
class Tell:
    """
    Says the text of an answer, a delta after the other.

    @ivar pace: seconds after each.
    """

    tag: str
    size: int
    padding: int
    pace: float

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        turn.openBlock("text")
        for number in range(self.size):
            turn.deltas([delta(self.tag, number, self.padding)])
            yield self.pace
        turn.closeBlock()


def question(tag: str, size: int, padding: int, pace: float, end: str) -> str:
    """
    What L{model} answers with this text.

    @param size: how many deltas.
    @param pace: seconds after each.
    @param end: how the turn ends: C{well}, C{failing}, C{dying}.
    """
    return f"{tag} {size} {padding} {pace} {end}"


def model(asked: ModelPrompt) -> Sequence[Step]:
    """
    Says the text of the answer that is asked for.
    """
    tag, size, padding, pace, end = asked.text.split()
    said = Tell(tag, int(size), int(padding), float(pace))
    return [said, *{"well": [], "failing": [Fail("It broke.")], "dying": [Exit(1)]}[end]]

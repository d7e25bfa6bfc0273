# -*- test-case-name: tests.embedded.test_content -*-
"""
What a prompt's content says, for models that are not intelligent.

The content is one string: a single user message as it is, or a longer history
as a transcript, in which each message stands under a header line that begins
with the transcript's boundary. An intelligent model is told so in words; this
module knows the form. A content in any other form is taken for one message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Final, NamedTuple

#: A transcript ends with a header line of its own and one line of instruction.
_END: Final = re.compile(r"\n\n\[(\w+) end\]\n[^\n]*\Z")

_RESULT_OF: Final = re.compile(r'result of the tool ("(?:[^"\\]|\\.)*")')


class Section(NamedTuple):
    """
    One message of a transcript.
    """

    header: str
    text: str


def sectionsOf(content: str) -> list[Section]:
    """
    Return the messages of a transcript in order; none when it is not a transcript.
    """
    end = _END.search(content)
    if end is None:
        return []
    sections = content[: end.start()].split(f"\n\n[{end[1]} ")[1:]
    cut = (section.partition("]\n") for section in sections)
    return [Section(header, text) for header, _, text in cut]


def lastUserText(content: str) -> str:
    """
    Return the last words of the user.
    """
    said = [text for header, text in sectionsOf(content) if header.split(" ", 1)[0] == "user"]
    return said[-1] if said else content


def givenResults(content: str) -> list[tuple[str, str]]:
    """
    Return name and text of the tool results that a transcript ends with, in order.
    """
    backwards = reversed(sectionsOf(content))
    last = list(takewhile(lambda section: section.header.startswith("result"), backwards))
    return list(_named(last[::-1]))


def _named(sections: list[Section]) -> Iterator[tuple[str, str]]:
    for header, text in sections:
        name = _RESULT_OF.match(header)
        yield (json.loads(name[1]) if name else "a tool"), text

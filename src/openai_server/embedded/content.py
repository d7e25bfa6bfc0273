# -*- test-case-name: tests.embedded.test_models -*-
"""
What a prompt's content says, for models that are not intelligent.

The content is one string: a single user message as it is, or a longer history
as a transcript. The transcript's form is another room's business; these two
functions are all that the embedded models know of it.
"""

from __future__ import annotations


def lastUserText(content: str) -> str:
    """
    The words of the user that the prompt ends with.
    """
    return content


def givenResults(content: str) -> str | None:
    """
    The text of the tool results that the prompt ends with, or None when it
    ends with something else.
    """
    return None

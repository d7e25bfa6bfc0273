# -*- test-case-name: tests.flow.test_calls -*-
"""
What a request brings for the calls of a turn that waits.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

from openai_server.errors import APIError
from openai_server.sessions.calls import ParkedCall
from openai_server.sessions.matching import Match
from openai_server.translate.tools import resultText
from openai_server.web.submission import Submission

#: What stands before words that came with a result, by the role that said them.
_ALSO: Final = {
    "user": "The user adds to this result:",
    "system": "An instruction of the system came with this result:",
}


def bringsFiles(submission: Submission, match: Match) -> bool:
    """
    Return whether more than text comes with the results. A result is text
    alone: the rest needs a new turn.
    """
    added = (submission.inquiry.messages[at] for at in match.extra)
    return any(message.hasMedia for message in added)


def resultsFrom(submission: Submission, match: Match) -> list[tuple[ParkedCall, str]]:
    """
    Return each answered call with its result.
    """
    messages = submission.inquiry.messages
    return [(call, resultText(messages[at].content)) for call, at in match.results]


def resultsAndMoreFrom(submission: Submission, match: Match) -> list[tuple[ParkedCall, str]]:
    """
    Return the same, with all that was said beside the results in the last one.
    """
    results = resultsFrom(submission, match)
    call, text = results[-1]
    results[-1] = (call, text + _added(submission, match))
    return results


def missing(match: Match) -> APIError:
    """
    Return the error of a request that answers only some of the calls.
    """
    ids = ", ".join(call.publicId for call in match.missing)
    return APIError(
        "invalid_value",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        f"'tool_call_id'. These have no response: {ids}.",
        param="messages",
    )


def _added(submission: Submission, match: Match) -> str:
    added = (submission.inquiry.messages[at] for at in match.extra)
    text = ""
    for whose, run in groupby(added, lambda message: _ALSO[message.role]):
        said = "\n\n".join(filter(None, (message.text for message in run)))
        text += f"\n\n[{whose}]\n{said}" if said else ""
    return text

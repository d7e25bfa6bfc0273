# -*- test-case-name: tests.translate.test_words -*-
"""
What a worker says when a turn fails, and what it means to a client.

Workers forward their CLI's own words. The table below was seen with the
claude CLI 2.1.197 behind humd 0.31.18.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from openai_server.errors import APIError
from openai_server.wire.ends import Loss, Lost
from openai_server.wire.tones import Error

#: Characters of a worker's message that a client is shown, and that are read.
MAX_SHOWN: Final = 500
_MAX_READ: Final = 2000
_SOON: Final = 5


@dataclass(frozen=True)
class Meaning:
    """
    What a worker's words mean.

    @ivar name: the kind of failure.
    @ivar reason: the finish reason that they mean instead, if any.
    @ivar isAfterText: C{reason} holds only once text was given.
    @ivar ranNothing: the model refused before it began: asking again is safe
        as long as nothing was shown.
    """

    name: str
    reason: Literal["length", "content_filter"] | None = None
    isAfterText: bool = False
    ranNothing: bool = False


_LIMITED: Final = Meaning("rate_limit_exceeded", ranNothing=True)
_OVERLOADED: Final = Meaning("worker_overloaded", ranNothing=True)
_FAILED: Final = Meaning("worker_error")

#: The words, as patterns, in the order in which they are tried.
_MEANINGS: Final = [
    (re.compile(words, re.IGNORECASE), meaning)
    for words, meaning in [
        (r"prompt is too long", Meaning("context_length_exceeded")),
        (
            r"the model has reached its context window limit",
            Meaning("context_length_exceeded", reason="length", isAfterText=True),
        ),
        (r"exceeded the \S+ output token maximum", Meaning("worker_error", reason="length")),
        (
            r"unable to respond to this request, which appears to violate",
            Meaning("worker_error", reason="content_filter"),
        ),
        (r"request too large", Meaning("prompt_too_large")),
        (r"there's an issue with the selected model", Meaning("model_refused")),
        (r"credit balance is too low", Meaning("insufficient_quota")),
        (r"request rejected \(429\)|api error: 429\b|limit reached|hit your limit", _LIMITED),
        (r"api error: 529\b|overloaded", _OVERLOADED),
    ]
]

#: What must not leave the server, in the order in which it is taken out.
# Bounded and possessive throughout: a worker's message must not cost more than
# its length.
_private = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]{0,20}+://\S+                           # an address
    | \b(?:bearer|basic)\s+[^\s"',;]+                          # credentials
    | \b(?:(?:api|access|secret)[-_ ]?key|token|password|secret)\s*[:=]\s*\S+
    | \b(?:sk|pk|key|token|ghp|xox[a-z])[-_][A-Za-z0-9_.-]{6,}
    | (?<![\w.-])[\w.+-]{1,64}+@[\w-]+\.[\w.-]+               # a mailbox
    | \[[0-9a-f:.]{0,45}+\](?::\d+)?                          # an IPv6 host
    | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b                   # an IPv4 host
    | \b[a-z][a-z0-9.-]{0,253}+:\d{2,5}\b                     # a host and its port
    | \b(?:[a-z0-9-]{1,63}+\.){2,10}+[a-z]{2,24}\b            # a host name
    | \blocalhost\b
    | (?:~|\b[a-z]:|(?<![\w./\\]))[/\\][^\s"'<>|,;:()]+      # a path
    | \b[A-Za-z0-9_+=-]{40,}                                  # any long secret
    """,
    re.IGNORECASE | re.VERBOSE,
)
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_blanks = re.compile(r" {2,}")


def cleaned(message: Any) -> str:
    """
    A worker's message without addresses, hosts, paths, keys and control
    characters, of bounded length; empty when there is none.
    """
    if not isinstance(message, str):
        return ""
    text = _control.sub(" ", message[:_MAX_READ])
    text = _blanks.sub(" ", _private.sub("[...]", text)).strip()
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN].rstrip() + "..."


def meaningOf(error: Error) -> Meaning:
    """
    What the words of an C{error} tone mean.
    """
    if error.subtype == "error_max_turns" or not isinstance(error.message, str):
        return _FAILED
    said = error.message[:_MAX_READ]
    for words, meaning in _MEANINGS:
        if words.search(said):
            return meaning
    return _FAILED


def noWorkerError(model: str, *, modelIsKnown: bool) -> APIError:
    """
    What the client is told when no worker serves a model.

    @param modelIsKnown: it is configured, or a worker served it before: then
        it may come back.
    """
    if modelIsKnown:
        return APIError("model_unavailable", f"No worker serves the model '{model}' now.", retryAfter=_SOON)
    said = f"The model '{model}' does not exist: no worker serves it."
    return APIError("model_not_found", said, param="model")


def apiErrorFromError(error: Error, *, seen: bool, messagesParam: str = "messages") -> APIError:
    """
    A failed turn, as its client is told.

    @param seen: a chunk or a call had come.
    @param messagesParam: where the messages stand in the request.
    """
    meaning = meaningOf(error)
    mayRetry = meaning.ranNothing and not seen
    return APIError(
        meaning.name,
        cleaned(error.message) or _WORDLESS.get(str(error.subtype), "The worker failed."),
        param=_param(meaning.name, messagesParam),
        retryAfter=_SOON if mayRetry else None,
        mayRetry=mayRetry,
    )


_WORDLESS: Final = {"error_max_turns": "The worker reached its limit of model calls."}


def _param(name: str, messagesParam: str) -> str | None:
    return {"context_length_exceeded": messagesParam, "model_refused": "model"}.get(name)


#: What a client is told of a turn that ended in silence.
_LOSSES: Final = {
    Loss.NO_ECHO: ("daemon_silent", "The daemon did not take the request."),
    Loss.PAST_DUSK: ("past_dusk", "The daemon took the request too late."),
    Loss.NO_LIFE: ("upstream_timeout", "The worker gave no sign of life in time."),
    Loss.STALLED: ("upstream_timeout", "The worker fell silent."),
    Loss.TOO_LONG: ("upstream_timeout", "The turn took longer than it may."),
    Loss.DAEMON_LOST: ("daemon_lost", "The connection to the daemon was lost."),
    Loss.WORKER_LOST: ("worker_lost", "The worker is gone."),
    Loss.DRAIN_LIMIT: ("upstream_timeout", "The turn did not end in time."),
    Loss.FAULT: ("internal_error", "The server failed."),
}


def apiErrorFromLoss(lost: Lost) -> APIError:
    """
    A turn that ended in silence, as its client is told. Only what the daemon
    dropped unread can be asked again.
    """
    name, said = _LOSSES[lost.why]
    mayRetry = lost.why is Loss.PAST_DUSK
    return APIError(name, said, retryAfter=1 if mayRetry else None, mayRetry=mayRetry)

"""
What workers say when they fail.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.translate.words import (
    MAX_SHOWN,
    apiErrorFromError,
    apiErrorFromLoss,
    cleaned,
    noWorkerError,
)
from openai_server.wire.ends import Loss, Lost
from openai_server.wire.tones import Error
from tests.support import SyncCase


def error(message: Any, **more: Any) -> Error:
    """
    An error tone.
    """
    return Error(sid="s", message=message, code="worker_error", **more)


class MeaningTests(SyncCase):
    """
    L{apiErrorFromError}.
    """

    def test_table(self) -> None:
        """
        The claude CLI's words, with status and code.
        """
        for words, status, code in (
            ("Prompt is too long", 400, "context_length_exceeded"),
            ("The model has reached its context window limit.", 400, "context_length_exceeded"),
            ("Request too large (max 32MB)", 413, "request_too_large"),
            ("There's an issue with the selected model (x). It may not exist", 404, "model_not_found"),
            ("Credit balance is too low", 429, "insufficient_quota"),
            ("API Error: Request rejected (429) · slow down", 429, "rate_limit_exceeded"),
            ("API Error: 429 {}", 429, "rate_limit_exceeded"),
            ("Claude usage limit reached", 429, "rate_limit_exceeded"),
            ("You've hit your limit · resets 3am", 429, "rate_limit_exceeded"),
            ("API Error: 529 ", 503, "server_is_overloaded"),
            ("Overloaded", 503, "server_is_overloaded"),
            ("Invalid API key · Fix external API key", 502, "worker_error"),
            ("Not logged in · Please run /login", 502, "worker_error"),
            ("API Error: Connection closed mid-response", 502, "worker_error"),
            ("API Error: 500", 502, "worker_error"),
            ("API Error: 4290", 502, "worker_error"),
            ("anything else", 502, "worker_error"),
        ):
            found = apiErrorFromError(error(words), seen=False)
            self.assertEqual((found.kind.status, found.kind.code), (status, code), words)

    def test_retryOnlyWhereNothingRan(self) -> None:
        """
        A worker's 429 or 529 before any chunk may be asked again, and says
        when; nothing else may.
        """
        for words in ("API Error: 429", "Overloaded"):
            before, after = (apiErrorFromError(error(words), seen=seen) for seen in (False, True))
            self.assertEqual((before.mayRetry, before.retryAfter), (True, 5))
            self.assertEqual((after.mayRetry, after.retryAfter), (False, None))
        for words in ("Credit balance is too low", "Prompt is too long", "API Error: 500"):
            found = apiErrorFromError(error(words), seen=False)
            self.assertEqual((found.mayRetry, found.retryAfter), (False, None))

    def test_param(self) -> None:
        """
        Agents look at it.
        """
        self.assertEqual(apiErrorFromError(error("Prompt is too long"), seen=False).param, "messages")
        words = "There's an issue with the selected model"
        self.assertEqual(apiErrorFromError(error(words), seen=False).param, "model")
        self.assertIsNone(apiErrorFromError(error("x"), seen=False).param)

    def test_maxTurns(self) -> None:
        """
        The subtype counts, whatever the words look like.
        """
        found = apiErrorFromError(error("turn limit reached", subtype="error_max_turns"), seen=False)
        self.assertEqual((found.name, found.mayRetry), ("worker_error", False))
        wordless = apiErrorFromError(error(None, subtype="error_max_turns"), seen=False)
        self.assertEqual(wordless.message, "The worker reached its limit of model calls.")

    def test_noWords(self) -> None:
        """
        A message that is none gets ours.
        """
        for message in (None, "", 3, {"a": 1}, "\0\n"):
            found = apiErrorFromError(error(message), seen=True)
            self.assertEqual((found.name, found.message), ("worker_error", "The worker failed."))


class CleanedTests(SyncCase):
    """
    L{cleaned}.
    """

    def test_takesOut(self) -> None:
        """
        Nothing of the machine or its secrets stays.
        """
        for secret in (
            "https://api.example.com/v1/messages?key=x",
            "HTTP://10.0.0.1",
            "unix:///run/x.sock",
            "127.0.0.1:8080",
            "10.1.2.3",
            "[::1]:443",
            "localhost",
            "myhost:8443",
            "api.example.com",
            "/home/alice/.claude/settings.json",
            "~/.claude",
            "C:\\Users\\alice\\x",
            "sk-ant-api03-abcdefgh",
            "Bearer abc.def",
            "api_key=secret1",
            "token: secret1",
            "alice@example.com",
            "A" * 40,
        ):
            shown = cleaned(f"Failed with {secret} here")
            self.assertEqual(shown, "Failed with [...] here", secret)

    def test_keepsWords(self) -> None:
        """
        What a person needs stays to the letter.
        """
        for words in (
            "API Error: 529 Overloaded. Try again and/or wait, 3 of 10.",
            "There's an issue with the selected model (claude-sonnet-4.5). It may not exist.",
            "exceeded the 32000 output token maximum",
            "You've hit your limit · resets 3:30am",
            "req_011CSHoEeqs5C35K2UUqR7Fy",
        ):
            self.assertEqual(cleaned(words), words)

    def test_controlCharacters(self) -> None:
        """
        One line without anything a terminal obeys.
        """
        self.assertEqual(cleaned("a\r\nb\x1b[31mc\x00\u2028d\x85e\ud800f"), "a b [31mc d e f")

    def test_bounded(self) -> None:
        """
        Long messages are cut.
        """
        shown = cleaned("word " * 10_000)
        self.assertTrue(shown.endswith("word..."))
        self.assertLessEqual(len(shown), MAX_SHOWN + 3)

    def test_neverSlow(self) -> None:
        """
        Messages made to make expressions run for ever do not.
        """
        start = time.process_time()
        for piece in ("a-", "a.", "a+", "a:", "/a", "1.", "[:", "a@", "-", "~/", "sk-", "://", "a:1"):
            cleaned(piece * 20_000)
        self.assertLess(time.process_time() - start, 2)

    @settings(deadline=None, max_examples=100)
    @given(st.text())
    def test_anythingEncodes(self, text: str) -> None:
        """
        What comes out is one line of valid text.
        """
        shown = cleaned(text)
        shown.encode()
        self.assertTrue(len(shown.splitlines()) <= 1)


class NoWorkerTests(SyncCase):
    """
    L{noWorkerError}.
    """

    def test_knownModel(self) -> None:
        """
        It may come back.
        """
        found = noWorkerError("m", modelIsKnown=True)
        self.assertEqual((found.kind.status, found.kind.code), (503, "model_unavailable"))
        self.assertEqual((found.retryAfter, found.mayRetry), (5, True))

    def test_unknownModel(self) -> None:
        """
        OpenAI's 404.
        """
        found = noWorkerError("m", modelIsKnown=False)
        self.assertEqual((found.kind.status, found.kind.code, found.param), (404, "model_not_found", "model"))


class LossTests(SyncCase):
    """
    L{apiErrorFromLoss}.
    """

    def test_table(self) -> None:
        """
        Each kind of silence; only what the daemon dropped unread may be asked
        again.
        """
        table = {
            Loss.NO_ECHO: (503, "daemon_unavailable", False),
            Loss.PAST_DUSK: (503, "daemon_unavailable", True),
            Loss.NO_LIFE: (504, "upstream_timeout", False),
            Loss.STALLED: (504, "upstream_timeout", False),
            Loss.TOO_LONG: (504, "upstream_timeout", False),
            Loss.DAEMON_LOST: (502, "daemon_lost", False),
            Loss.WORKER_LOST: (502, "worker_lost", False),
            Loss.DRAIN_LIMIT: (504, "upstream_timeout", False),
            Loss.FAULT: (500, "internal_error", False),
        }
        for why in Loss:
            found = apiErrorFromLoss(Lost(why, seen=False))
            self.assertEqual((found.kind.status, found.kind.code, found.mayRetry), table[why], why)
            self.assertEqual(found.retryAfter, 1 if found.mayRetry else None)

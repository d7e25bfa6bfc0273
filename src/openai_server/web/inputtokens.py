# -*- test-case-name: tests.flow.test_inputs -*-
"""
How many tokens an input has, before anybody is asked: an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry
from openai_server.api.usage import inputTokensBody
from openai_server.sessions.hints import NO_HINTS
from openai_server.translate.estimate import promptSize, tokensOf
from openai_server.web.interfaces import Request
from openai_server.web.kept import KeptAnswers, accountOf
from openai_server.web.routes import Answer
from openai_server.web.submission import Submitter

#: An estimate is the same for all of them, and the request need not name one.
_ANY_MODEL = "any"


class InputTokens:
    """
    The route that counts.
    """

    def __init__(
        self,
        dialect: Dialect,
        kept: KeptAnswers,
        submitter: Submitter,
        takenNames: Callable[[], Container[str]],
    ) -> None:
        """
        @param dialect: of the bodies: what would be asked is counted.
        @param takenNames: gives the names that no tool can have at the daemon.
        """
        self._dialect = dialect
        self._kept = kept
        self._submitter = submitter
        self._takenNames = takenNames

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return its method, template and function.
        """
        return [("POST", "/v1/responses/input_tokens", self.count)]

    async def count(self, request: Request) -> bytes:
        """
        Return about how many tokens a model would be told.

        @raise APIError: 400, it could not be asked.
        """
        account = accountOf(request)
        parsed = self._dialect.parse(request.takeBody(), _ANY_MODEL)
        inquiry = parsed if isinstance(parsed, Inquiry) else await self._kept.resolved(account, parsed)
        submission = self._submitter.submission(account, "", inquiry, NO_HINTS, self._takenNames())
        if inquiry.ignored:
            request.setHeader(b"x-hum-ignored", ",".join(inquiry.ignored).encode())
        request.setHeader(b"x-hum-usage", b"estimated")
        return inputTokensBody(tokensOf(promptSize(inquiry, submission.offer)))

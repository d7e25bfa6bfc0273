# -*- test-case-name: tests.telemetry.test_metrics -*-
"""
What is counted of requests and turns when they have ended.

OpenTelemetry's names are those of its semantic conventions for generative AI,
as its own exporter for Prometheus spells them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from openai_server.reports import RequestReport, TurnReport
from openai_server.telemetry.families import Distributed, Family, Growing, KnownNames

#: Upper bounds in seconds, up to an hour.
TIMES: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
)
#: The same for one token.
TOKEN_TIMES: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 10.0)
#: Upper bounds in tokens, as the conventions have them up to what a model reads.
TOKENS: Final = tuple(float(4**power) for power in range(12))
#: Accounts that are told from each other.
MOST_ACCOUNTS: Final = 200
#: Who makes the answers, as the conventions call it.
PROVIDER: Final = "hum"
#: What the conventions call the work of each route that asks a model.
OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/responses/compact": "chat",
    "/v1/completions": "text_completion",
}

_OF_MODEL: Final = ("operation", "model")
_GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_request_model")


class ReportedFigures:
    """
    Hears of requests and turns, and counts them.

    @ivar models: those that are told from each other.
    """

    def __init__(self, isKnown: Callable[[str], bool]) -> None:
        """
        @param isKnown: whether there is such a model, which may be any text.
        """
        self.models = KnownNames(isKnown)
        self._accounts = KnownNames(lambda _: True, MOST_ACCOUNTS)
        self._requests = Growing(
            "openai_server_requests", "requests that have ended", ("method", "route", "status", "end")
        )
        self._durations = Distributed(
            "openai_server_request_duration_seconds",
            "seconds from a request's head to its end",
            ("method", "route"),
            TIMES,
        )
        self._asked = Distributed(
            "gen_ai_server_request_duration_seconds",
            "seconds that a request of a model took",
            (*_GEN_AI, "error_type"),
            TIMES,
            fixed={"gen_ai_provider_name": PROVIDER},
        )
        self._firstTokens = Distributed(
            "openai_server_time_to_first_token_seconds",
            "seconds from a request's head to its first output",
            _OF_MODEL,
            TIMES,
        )
        self._tokenTimes = Distributed(
            "openai_server_time_per_output_token_seconds",
            "seconds for each token behind the first, the mean of a request that ended well",
            _OF_MODEL,
            TOKEN_TIMES,
        )
        self._turns = Growing("openai_server_turns", "turns that have ended", ("api", "end"))
        self._turnDurations = Distributed(
            "openai_server_turn_duration_seconds",
            "seconds from a prompt to the end of its turn",
            ("model",),
            TIMES,
        )
        self._tokens = Growing(
            "openai_server_tokens", "tokens of turns; cached ones are input too", ("model", "kind")
        )
        self._calls = Growing("openai_server_tool_calls", "tool calls that clients were given", ("model",))
        self._accountTokens = Growing(
            "openai_server_account_tokens", "tokens of an account's turns", ("account", "kind")
        )
        self._accountRequests = Growing(
            "openai_server_account_requests", "requests of an account", ("account",)
        )
        self._usage = Distributed(
            "gen_ai_client_token_usage",
            "tokens of a turn",
            (*_GEN_AI, "gen_ai_token_type"),
            TOKENS,
            fixed={"gen_ai_provider_name": PROVIDER},
        )

    def families(self) -> Iterator[Family]:
        """
        Yield all of them.
        """
        yield from (self._requests, self._durations, self._firstTokens, self._tokenTimes)
        yield from (self._turns, self._turnDurations, self._tokens, self._calls)
        yield from (self._accountRequests, self._accountTokens, self._asked, self._usage)
        for found in (self._firstTokens, self._tokenTimes):
            name = found.name.replace("openai_server_", "gen_ai_server_")
            yield found.named(name, _GEN_AI, gen_ai_provider_name=PROVIDER)

    def requestEnded(self, report: RequestReport) -> None:
        """
        A request has ended.
        """
        method, route, seconds = report.method, report.route, report.seconds
        self._requests.add((method, route, str(report.status), report.end))
        self._durations.add((method, route), seconds)
        if report.account:
            self._accountRequests.add((self._accounts.of(report.account),))
        operation = OPERATIONS.get(route)
        if operation is None or report.model is None:
            return
        of = operation, self.models.of(report.model)
        isGood = report.end == "ok"
        self._asked.add((*of, "" if isGood else report.end), seconds)
        first, tokens = report.firstTokenSeconds, report.outputTokens
        if first is not None:
            self._firstTokens.add(of, first)
            if isGood and tokens is not None and tokens > 1:
                self._tokenTimes.add(of, (seconds - first) / (tokens - 1))

    def turnEnded(self, report: TurnReport) -> None:
        """
        A turn has ended.
        """
        model, account = self.models.of(report.model), self._accounts.of(report.account)
        self._turns.add((report.api, report.end))
        self._turnDurations.add((model,), report.seconds)
        if report.calls:
            self._calls.add((model,), report.calls)
        for kind, tokens in (
            ("input", report.inputTokens),
            ("cached", report.cachedTokens),
            ("output", report.outputTokens),
        ):
            self._tokens.add((model, kind), tokens)
            self._accountTokens.add((account, kind), tokens)
        operation = "text_completion" if report.api == "completions" else "chat"
        self._usage.add((operation, model, "input"), report.inputTokens)
        self._usage.add((operation, model, "output"), report.outputTokens)

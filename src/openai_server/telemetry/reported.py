# -*- test-case-name: tests.telemetry.test_metrics -*-
"""
What is counted of requests and turns when they have ended. Where that is, is
looked up once for those that are alike.

OpenTelemetry's names are those of its semantic conventions for generative AI,
as its own exporter for Prometheus spells them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from openai_server.metrics import Distribution
from openai_server.reports import RequestReport, TurnReport
from openai_server.telemetry.families import Count, Counting, Distributed, Family, KnownNames

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

#: Places that are kept by what is counted there.
MOST_PLACES: Final = 4096

_K = TypeVar("_K")
_V = TypeVar("_V")

_OF_MODEL: Final = ("operation", "model")
_GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_request_model")


class RequestPlace(NamedTuple):
    """
    Where requests are counted that are alike.

    @ivar firstTokens: None where no model was asked.
    @ivar tokenTimes: None where it did not end well either.
    """

    counts: Sequence[Count]
    durations: Sequence[Distribution]
    firstTokens: Distribution | None
    tokenTimes: Distribution | None


class TurnPlace(NamedTuple):
    """
    Where turns are counted that are alike.
    """

    turns: Count
    calls: Count
    durations: Distribution
    input: Sequence[Count]
    cached: Sequence[Count]
    output: Sequence[Count]
    inputUsage: Distribution
    outputUsage: Distribution


class ReportedFigures:
    """
    Hears of requests and turns, and counts them.

    @ivar models: those that are told from each other.
    """

    def __init__(self, isKnown: Callable[[str], bool]) -> None:
        """
        @param isKnown: whether there is such a model, which may be any text.
        """
        self._requestPlaces: dict[object, RequestPlace] = {}
        self._turnPlaces: dict[object, TurnPlace] = {}
        self.models = KnownNames(isKnown)
        self._accounts = KnownNames(lambda _: True, MOST_ACCOUNTS)
        self._requests = Counting(
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
        self._turns = Counting("openai_server_turns", "turns that have ended", ("api", "end"))
        self._turnDurations = Distributed(
            "openai_server_turn_duration_seconds",
            "seconds from a prompt to the end of its turn",
            ("model",),
            TIMES,
        )
        self._tokens = Counting(
            "openai_server_tokens", "tokens of turns; cached ones are input too", ("model", "kind")
        )
        self._calls = Counting("openai_server_tool_calls", "tool calls that clients were given", ("model",))
        self._accountTokens = Counting(
            "openai_server_account_tokens", "tokens of an account's turns", ("account", "kind")
        )
        self._accountRequests = Counting(
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
        counted = (self._requests, self._accountRequests, self._turns, self._tokens, self._accountTokens)
        yield from [each.now() for each in (*counted, self._calls)]
        yield from (self._durations, self._firstTokens, self._tokenTimes, self._turnDurations)
        yield from (self._asked, self._usage)
        for found in (self._firstTokens, self._tokenTimes):
            name = found.name.replace("openai_server_", "gen_ai_server_")
            yield found.named(name, _GEN_AI, gen_ai_provider_name=PROVIDER)

    def requestEnded(self, report: RequestReport) -> None:
        """
        A request has ended.
        """
        key = report.method, report.route, report.status, report.end, report.model, report.account
        place = self._requestPlaces.get(key) or self._placeOfRequest(report)
        seconds, first, tokens = report.seconds, report.firstTokenSeconds, report.outputTokens
        for count in place.counts:
            count.number += 1
        for durations in place.durations:
            durations.add(seconds)
        if first is not None and place.firstTokens is not None:
            place.firstTokens.add(first)
            if tokens is not None and tokens > 1 and place.tokenTimes is not None:
                place.tokenTimes.add((seconds - first) / (tokens - 1))

    def turnEnded(self, report: TurnReport) -> None:
        """
        A turn has ended.
        """
        key = report.account, report.api, report.model, report.end
        place = self._turnPlaces.get(key) or self._placeOfTurn(report)
        place.turns.number += 1
        place.durations.add(report.seconds)
        place.calls.number += report.calls
        for counts, number in (
            (place.input, report.inputTokens),
            (place.cached, report.cachedTokens),
            (place.output, report.outputTokens),
        ):
            for count in counts:
                count.number += number
        place.inputUsage.add(report.inputTokens)
        place.outputUsage.add(report.outputTokens)

    def _placeOfRequest(self, report: RequestReport) -> RequestPlace:
        method, route, end = report.method, report.route, report.end
        account = report.account and self._accounts.of(report.account)
        model = None if report.model is None else self.models.of(report.model)
        key = method, route, report.status, end, model, account
        place = self._requestPlaces.get(key)
        if place is None:
            place = self._newPlaceOfRequest(method, route, report.status, end, model, account)
            _keep(self._requestPlaces, key, place)
        return place

    def _newPlaceOfRequest(
        self, method: str, route: str, status: int, end: str, model: str | None, account: str
    ) -> RequestPlace:
        counts = [self._requests.of(method, route, str(status), end)]
        durations = [self._durations.of(method, route)]
        firstTokens, tokenTimes = None, None
        if account:
            counts.append(self._accountRequests.of(account))
        operation = OPERATIONS.get(route)
        if operation is not None and model is not None:
            isGood = end == "ok"
            durations.append(self._asked.of(operation, model, "" if isGood else end))
            firstTokens = self._firstTokens.of(operation, model)
            tokenTimes = self._tokenTimes.of(operation, model) if isGood else None
        return RequestPlace(counts, durations, firstTokens, tokenTimes)

    def _placeOfTurn(self, report: TurnReport) -> TurnPlace:
        model, account = self.models.of(report.model), self._accounts.of(report.account)
        key = account, report.api, model, report.end
        place = self._turnPlaces.get(key)
        if place is None:
            place = self._newPlaceOfTurn(*key)
            _keep(self._turnPlaces, key, place)
        return place

    def _newPlaceOfTurn(self, account: str, api: str, model: str, end: str) -> TurnPlace:
        operation = "text_completion" if api == "completions" else "chat"

        def counts(kind: str) -> Sequence[Count]:
            return self._tokens.of(model, kind), self._accountTokens.of(account, kind)

        return TurnPlace(
            turns=self._turns.of(api, end),
            calls=self._calls.of(model),
            durations=self._turnDurations.of(model),
            input=counts("input"),
            cached=counts("cached"),
            output=counts("output"),
            inputUsage=self._usage.of(operation, model, "input"),
            outputUsage=self._usage.of(operation, model, "output"),
        )


def _keep(places: dict[_K, _V], key: _K, place: _V) -> None:
    if len(places) >= MOST_PLACES:
        places.clear()
    places[key] = place

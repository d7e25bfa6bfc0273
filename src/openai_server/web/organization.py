# -*- test-case-name: tests.flow.test_organization -*-
"""
What all turns have cost, for administrators, as OpenAI tells it of completions
of whatever API.

An account is what OpenAI calls a project, and has one key: C{project_id} and
C{api_key_id} both are its name. A turn is a request to a model. End users,
batches and service tiers are not told apart: C{user_id} and C{service_tier} are
C{None}, and C{batch} is C{false}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from openai_server.api.rules import missing
from openai_server.api.usagepage import UsageBucket, UsageResult, usagePageBody
from openai_server.errors import APIError
from openai_server.store.ledger import Ledger, UsageSum, UsageWanted
from openai_server.web.administrators import checkAdministrator
from openai_server.web.interfaces import Request
from openai_server.web.query import listOf, numberOf, oneOf, queryOf
from openai_server.web.routes import Answer

#: The width of a bucket, how many a page has, and how many at most.
_WIDTHS: Final = {"1d": (86400, 7, 31), "1h": (3600, 24, 168), "1m": (60, 60, 1440)}
#: What stands for each group: a field of the ledger, or what is the same for all.
_FIELDS: Final = {"project_id": "account", "api_key_id": "account", "model": "model"}
_SAME: Final[Mapping[str, Any]] = {
    "user_id": None,
    "batch": False,
    "service_tier": None,
    "api_source": "unlabeled",
}
_FILTERS: Final = {"project_ids": "account", "api_key_ids": "account", "models": "model"}
#: Results of one page.
_MOST: Final = 20_000
_LATEST: Final = 2**33
_PAGE: Final = "page_"


class Organization:
    """
    The routes of an organization's administrators.
    """

    def __init__(self, ledger: Ledger, now: Callable[[], float]) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self._ledger = ledger
        self._now = now

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return methods, templates and functions.
        """
        return [("GET", "/v1/organization/usage/completions", self.usage)]

    async def usage(self, request: Request) -> bytes:
        """
        Return a page of what turns have cost.

        @raise APIError: 403; 400 with C{param}; 503, the store is in trouble.
        """
        checkAdministrator(request)
        query = queryOf(request)
        page = _Page(query, int(self._now()) + 1)
        groups = _groupsOf(request)
        wanted = UsageWanted(
            since=page.since,
            until=page.until,
            width=page.width,
            by=tuple(dict.fromkeys(_FIELDS[group] for group in groups if group in _FIELDS)),
            only=_onlyOf(request),
            most=_MOST + 1,
        )
        isNothing = bool(listOf(request, "user_ids")) or oneOf(query, "batch", ("false", "true")) == "true"
        sums = () if isNothing else await self._ledger.usage(wanted)
        if sums is None:
            raise APIError("store_unavailable", "The store cannot be read for now.", retryAfter=5)
        if len(sums) > _MOST:
            said = f"More than {_MOST} results: ask for fewer buckets at a time."
            raise APIError("invalid_value", said, param="limit")
        results: dict[int, list[UsageResult]] = {}
        for each in sums:
            results.setdefault(each.start, []).append(_resultFrom(each, wanted.by, groups))
        buckets = [UsageBucket(start, start + page.width, results.get(start, [])) for start in page.starts]
        return usagePageBody(buckets, page.next)


class _Page:
    """
    The times of one page's buckets, which begin at multiples of their width.

    @ivar since: turns that ended then or later count.
    @ivar until: and before then.
    @ivar starts: of its buckets.
    @ivar next: what asks for the page behind it; None for none.
    """

    def __init__(self, query: Mapping[str, str], end: int) -> None:
        """
        @param end: where the query says none; there is nothing behind it.
        @raise APIError: 400, with C{param}.
        """
        if "start_time" not in query:
            raise missing("start_time")
        start = numberOf(query, "start_time", 0, 0, _LATEST)
        until = numberOf(query, "end_time", max(end, start + 1), 0, _LATEST)
        if until <= start:
            raise APIError("invalid_value", "Must be later than start_time.", param="end_time")
        until = min(until, end)
        self.width, usual, highest = _WIDTHS[oneOf(query, "bucket_width", tuple(_WIDTHS))]
        limit = numberOf(query, "limit", usual, 1, highest)
        first = start - start % self.width
        if "page" in query:
            first = self._placeOf(query["page"], first)
        behind = min(first + limit * self.width, until)
        self.since, self.until = max(start, first), behind
        self.starts = range(first, behind, self.width)
        self.next = f"{_PAGE}{behind}" if behind < until else None

    def _placeOf(self, page: str, first: int) -> int:
        said = page.removeprefix(_PAGE)
        place = int(said) if said.isascii() and said.isdigit() and len(said) < 12 else -1
        if place < first or place % self.width:
            raise APIError("invalid_value", "Must be the next_page of the page before.", param="page")
        return place


def _groupsOf(request: Request) -> Sequence[str]:
    said = ",".join(listOf(request, "group_by"))
    groups = tuple(dict.fromkeys(said.split(","))) if said else ()
    known = [*_FIELDS, *_SAME]
    if not set(groups) <= set(known):
        raise APIError("invalid_value", f"Each must be one of {', '.join(known)}.", param="group_by")
    return groups


def _onlyOf(request: Request) -> Mapping[str, Sequence[str]]:
    only: dict[str, list[str]] = {}
    for name, field in _FILTERS.items():
        if values := listOf(request, name):
            only[field] = [each for each in values if each in only.get(field, values)]
    return only


def _resultFrom(found: UsageSum, by: Sequence[str], groups: Sequence[str]) -> UsageResult:
    values = dict(zip(by, found.values, strict=True))
    apart: dict[str, Any] = {
        group: values[_FIELDS[group]] if group in _FIELDS else _SAME[group] for group in groups
    }
    return UsageResult(
        input_tokens=found.inputTokens,
        output_tokens=found.outputTokens,
        input_cached_tokens=found.cachedTokens,
        num_model_requests=found.turns,
        **apart,
    )

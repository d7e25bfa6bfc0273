# -*- test-case-name: tests.flow.test_organization -*-
"""
What many turns have cost, as OpenAI tells organizations: pages of buckets of
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

_RESULT: Final = "organization.usage.completions.result"


class UsageResult(msgspec.Struct, tag_field="object", tag=_RESULT, kw_only=True):
    """
    Some of a bucket's. What it is not told apart by is C{None}.
    """

    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    num_model_requests: int
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    batch: bool | None = None
    service_tier: str | None = None
    api_source: Literal["unlabeled"] | None = None


class UsageBucket(msgspec.Struct, tag_field="object", tag="bucket"):
    """
    One bucket; the times are in seconds since 1970.
    """

    start_time: int
    end_time: int
    results: list[UsageResult]


def usagePageBody(buckets: Sequence[UsageBucket], nextPage: str | None) -> bytes:
    """
    Return one page.

    @param nextPage: what asks for the next one; None for the last.
    """
    return msgspec.json.encode(
        {"object": "page", "data": buckets, "has_more": nextPage is not None, "next_page": nextPage}
    )

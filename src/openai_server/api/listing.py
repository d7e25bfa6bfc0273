# -*- test-case-name: tests.api.test_listing -*-
"""
OpenAI's lists, page by page, as bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def pageBody(data: Sequence[Mapping[str, Any] | msgspec.Raw], ids: Sequence[str], hasMore: bool) -> bytes:
    """
    Return one page of a list.

    @param data: the objects on it, or each as JSON.
    @param ids: theirs, in the same order.
    @param hasMore: whether there is a page behind it.
    """
    return msgspec.json.encode(
        {
            "object": "list",
            "data": data,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": hasMore,
        }
    )


def deletedBody(id: str, kind: str) -> bytes:
    """
    Return what is said of something that was deleted.

    @param kind: what it was, as OpenAI's C{object} has it.
    """
    return msgspec.json.encode({"id": id, "object": kind, "deleted": True})

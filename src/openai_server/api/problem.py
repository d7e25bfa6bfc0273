# -*- test-case-name: tests.api.test_problem -*-
"""
A failed request as OpenAI's error object.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openai_server.errors import APIError

_encode = msgspec.json.Encoder().encode


def errorBody(error: APIError) -> bytes:
    """
    The JSON body of an error: always all four members, the code a string or
    null.
    """
    members: dict[str, Any] = {
        "message": _clean(error.message),
        "type": error.kind.type,
        "param": None if error.param is None else _clean(error.param),
        "code": error.kind.code,
    }
    return _encode({"error": members})


def _clean(text: str) -> str:
    # A lone surrogate cannot be encoded, and an error must always get out.
    return text.encode("utf-8", "replace").decode()

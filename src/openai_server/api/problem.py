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
    null. The message names the field at fault as C{param} does: many clients
    show nothing else.
    """
    message, param = error.message, error.param
    if param is not None and param not in message:
        message = f"'{param}': {message}"
    members: dict[str, Any] = {
        "message": _clean(message),
        "type": error.kind.type,
        "param": None if param is None else _clean(param),
        "code": error.kind.code,
    }
    return _encode({"error": members})


def _clean(text: str) -> str:
    # A lone surrogate cannot be encoded, and an error must always get out.
    return text.encode("utf-8", "replace").decode()

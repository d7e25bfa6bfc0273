"""
Events of chat streams for the small client to read.
"""

from __future__ import annotations

import json


def chunk(**delta: object) -> bytes:
    """
    One event of a chat stream with this delta.
    """
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    body = {"object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def finish(reason: str) -> bytes:
    """
    The event that ends a choice.
    """
    return b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"%s"}]}\n\n' % reason.encode()


DONE = b"data: [DONE]\n\n"
TEXT = chunk(role="assistant", content="") + chunk(content="pi") + chunk(content="ng")
WHOLE = TEXT + finish("stop") + DONE

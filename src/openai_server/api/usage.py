# -*- test-case-name: tests.api.chat.test_render -*-
"""
What an answer cost, as OpenAI tells it with chat and legacy completions; and
what an input would cost.
"""

from __future__ import annotations

from typing import Final

from openai_server.api.output import Usage

#: Workers do not tell reasoning from the rest of an answer.
_USAGE: Final = (
    b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":%d,"cache_write_tokens":%d,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
    b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
)


def usageJSON(usage: Usage) -> bytes:
    """
    Return the object C{usage}.
    """
    total = usage.input + usage.output
    return _USAGE % (usage.input, usage.output, total, usage.cached, usage.cacheWritten)


def inputTokensBody(tokens: int) -> bytes:
    """
    Return what is said of the input of a response that is not asked for.
    """
    return b'{"object":"response.input_tokens","input_tokens":%d}' % tokens

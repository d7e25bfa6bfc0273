"""
What a kept chat completion and its messages must be, by the types of the
C{openai} package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from openai.types.chat import ChatCompletion, ChatCompletionStoreMessage
from openai.types.chat.chat_completion_store_message import ChatCompletionStoreMessageContentPart
from pydantic import TypeAdapter

_COMPLETION: Final = TypeAdapter(ChatCompletion)
_MESSAGE: Final = TypeAdapter(ChatCompletionStoreMessage)
#: What messages of other roles than the assistant's have as well.
_OF_OTHERS: Final = {"name", "tool_call_id"}


def checkCompletion(value: Mapping[str, Any]) -> None:
    """
    Check the object of a completion: nothing missing, nothing unknown.
    """
    found = _COMPLETION.validate_python(dict(value), strict=True)
    assert not found.model_extra, found.model_extra
    assert value.keys() == {"id", "object", "created", "model", "choices", "usage", "metadata"}, value.keys()
    (choice,) = found.choices
    assert not choice.model_extra and not choice.message.model_extra, choice


def checkMessage(value: Mapping[str, Any]) -> None:
    """
    Check a message of a request. The package gives all of them the role
    C{assistant}; OpenAI's own examples have that of each.
    """
    assert value["role"] in {"developer", "system", "user", "assistant", "tool", "function"}, value
    # Types in the package that are dictionaries allow no more than their members.
    found = _MESSAGE.validate_python({**value, "role": "assistant"}, strict=True)
    assert (found.model_extra or {}).keys() <= _OF_OTHERS, found.model_extra
    assert value.keys() >= {"id", "role", "content", "refusal", "content_parts"}, value
    known = {kind.__name__ for kind in get_args(ChatCompletionStoreMessageContentPart)}
    for part in found.content_parts or ():
        assert type(part).__name__ in known and not part.model_extra, part

# -*- test-case-name: tests.translate.test_estimate -*-
"""
What an answer costs, where its worker has not said so.

A worker tells the cost of a whole turn at its end, and a turn may be several
answers: those that end with calls are estimated, the last one gets the rest.

The estimate is one token for each 4 bytes of UTF-8 of all texts, rounded up:
for the prompt everything that the session holds, which is the system prompt,
the definitions of tools, and all messages with calls and results; for the
answer its text, reasoning and calls. Images, sound and files are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from openai_server.api.inquiry import Call, Inquiry, Message
from openai_server.api.output import Output, Reasoning, Text, ToolCalls, Usage
from openai_server.translate.prompt import formatInstruction, leadingMessages
from openai_server.translate.tools import Offer

BYTES_PER_TOKEN: Final = 4


def promptSize(inquiry: Inquiry, offer: Offer, held: int = 0) -> int:
    """
    Return the bytes of text that a session holds with what an inquiry says.

    @param held: those that it holds already, where the inquiry shows nothing
        of them; 0 for none.
    """
    messages = inquiry.messages
    if held:
        return held + _messagesSize(messages[leadingMessages(messages) :])
    size = _messagesSize(messages)
    if inquiry.wantsJSON:
        size += _size(formatInstruction(inquiry.format))
    if offer.definitions:
        size += sum([len(definition.encoded) for definition in offer.definitions])
        size += _size(offer.systemText) + _size(offer.instruction)
    return size


def answerSize(output: Iterable[Output]) -> int:
    """
    Return the bytes of text of an answer.
    """
    text: list[str] = []
    size = 0
    for event in output:
        if type(event) is Text:
            text += event.pieces
        elif type(event) is Reasoning:
            text.append(event.text)
        elif type(event) is ToolCalls:
            size += _callsSize(event.calls)
    return size + _size("".join(text))


def _messagesSize(messages: Sequence[Message]) -> int:
    size = 0
    for message in messages:
        size += _size(message.text)
        if message.name:
            size += _size(message.name)
        if message.calls:
            size += _callsSize(message.calls)
    return size


def _callsSize(calls: Iterable[Call]) -> int:
    return sum(_size(call.name) + _size(call.arguments) for call in calls)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def usageOfAnswer(reported: Usage | None, told: Usage, prompt: int, answer: int) -> Usage:
    """
    Return what one answer of a turn costs.

    @param reported: the worker's figures for the whole turn, None where there
        are none.
    @param told: what the answers of the turn before this one were told to
        cost, all together.
    @param prompt: bytes of text that the session holds.
    @param answer: bytes of text of the answer.
    """
    if reported is None:
        return Usage(tokensOf(prompt), tokensOf(answer))
    input = max(reported.input - told.input, 0)
    # What is read from the cache or put into it is some of the input.
    cached = min(reported.cached, input)
    cacheWritten = min(reported.cacheWritten, input - cached)
    return Usage(input, max(reported.output - told.output, 0), cached, cacheWritten)


def tokensOf(size: int) -> int:
    """
    Return about how many tokens so many bytes of text are.
    """
    return -(-size // BYTES_PER_TOKEN)

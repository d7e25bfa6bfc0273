# -*- test-case-name: tests.translate.test_schema -*-
"""
Whether an answer follows the JSON Schema that its request asked for.

Schemas and answers come from strangers, and a check runs on the reactor. So a
check has a budget of time and of size; no regular expression of a client's is
ever run, because one can run for ever; and no reference is fetched. What
could not be looked at is reported as C{unchecked}.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, TypeAlias

import msgspec
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError, validators
from referencing import Registry

from openai_server.errors import APIError
from openai_server.wire.readable import isReadable

Outcome: TypeAlias = Literal["valid", "invalid", "unchecked"]

#: Seconds that one check may take.
BUDGET: Final = 0.01
#: Bytes of a schema, and characters of an answer, that are checked.
MAX_SCHEMA: Final = 128 * 1024
MAX_ANSWER: Final = 256 * 1024
#: Bytes of a schema that a prompt may carry.
MAX_CARRIED: Final = 2**20

#: Levels of nesting that a prompt has around the schema of its answer.
_AROUND: Final = 4

#: Keywords inside keywords. Python's own limit must not be met in here: the
#: library underneath panics when it is.
MAX_LEVELS: Final = 64

#: What runs a client's expressions, or follows references out of sight.
_NEVER: Final = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems")


class _Unchecked(Exception):
    """
    The budget is spent.
    """


class _Budget:
    """
    How much longer and deeper a check may go.

    @ivar leftOut: something was not looked at.
    """

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        self._now = now
        self._end = now() + seconds
        self._level = 0
        self.leftOut = False

    def enter(self) -> None:
        """
        One more keyword is looked at.

        @raise _Unchecked: the time is up, or it stands too deep.
        """
        if self._level == MAX_LEVELS or self._now() > self._end:
            raise _Unchecked
        self._level += 1

    def leave(self) -> None:
        """
        It has been looked at.
        """
        self._level -= 1


#: The budget of the check that runs now. The keywords below are called by
#: jsonschema, which has nothing to pass it on with.
_budget: ContextVar[_Budget] = ContextVar("_budget")

_Keyword: TypeAlias = Callable[[Any, Any, Any, Any], Any]


def _counted(keyword: _Keyword) -> _Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        budget = _budget.get()
        budget.enter()
        try:
            yield from keyword(validator, value, instance, schema) or ()
        finally:
            budget.leave()

    return counted


def _leftOut(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    _budget.get().leftOut = True


def _additionalProperties(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
    # jsonschema's own runs the expressions of patternProperties beside it.
    if "patternProperties" in schema:
        return _leftOut(validator, value, instance, schema)
    return Draft202012Validator.VALIDATORS["additionalProperties"](validator, value, instance, schema)


def _uniqueItems(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # jsonschema's own compares all with all when they cannot be sorted.
    items = instance if value and isinstance(instance, list) else []
    if len({msgspec.json.encode(item, order="sorted") for item in items}) < len(items):
        yield ValidationError("items are not unique")


def _bounded(base: Any) -> Any:
    own = {"uniqueItems": _uniqueItems, "additionalProperties": _additionalProperties}
    counted = {name: _counted(keyword) for name, keyword in (dict(base.VALIDATORS) | own).items()}
    return validators.extend(base, counted | dict.fromkeys(_NEVER, _leftOut))


_Answers = _bounded(Draft202012Validator)
#: The older meta-schema says enough about what a schema looks like, and is
#: much faster than the newer one.
_Schemas = _bounded(Draft7Validator)
_meta = _Schemas(Draft7Validator.META_SCHEMA, registry=Registry())


def checkSchema(
    schema: Mapping[str, Any],
    param: str,
    *,
    now: Callable[[], float] = time.thread_time,
    budget: float = BUDGET,
) -> None:
    """
    Refuse what is no JSON Schema, and what the daemon could not read. What is
    too large to be looked at passes.

    @param now: a clock in seconds; by default one that runs only while this
        thread does, so that a busy machine changes no answer.
    @param budget: seconds.
    @raise APIError: 400 with this C{param}.
    """
    encoded = msgspec.json.encode(schema)
    if len(encoded) > MAX_CARRIED:
        raise APIError("invalid_value", f"The schema has more than {MAX_CARRIED} bytes.", param=param)
    if not isReadable(schema, encoded, around=_AROUND):
        said = "The schema is nested too deep, or a number in it is too large."
        raise APIError("invalid_value", said, param=param)
    if len(encoded) > MAX_SCHEMA:
        return
    token = _budget.set(_Budget(now, budget))
    try:
        found = next(_meta.iter_errors(schema), None)
    except _Unchecked:
        return
    finally:
        _budget.reset(token)
    if found is not None:
        place = "/".join(map(str, found.absolute_path))
        said = f"This is no valid JSON Schema, at '{place[:200]}'."
        raise APIError("invalid_value", said, param=param)


def checkAnswer(
    text: str,
    schema: Mapping[str, Any] | None,
    *,
    now: Callable[[], float] = time.thread_time,
    budget: float = BUDGET,
) -> Outcome:
    """
    Whether a whole answer is JSON and follows the schema.

    @param schema: None asks for any JSON object.
    @param now: a clock in seconds; by default one that runs only while this
        thread does, so that a busy machine changes no answer.
    @param budget: seconds.
    """
    if len(text) > MAX_ANSWER:
        return "unchecked"
    try:
        answer = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return "invalid"
    if schema is None:
        return "valid" if isinstance(answer, dict) else "invalid"
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA:
        return "unchecked"
    return _checked(answer, schema, _Budget(now, budget))


def _checked(answer: Any, schema: Mapping[str, Any], budget: _Budget) -> Outcome:
    token = _budget.set(budget)
    try:
        isValid = _Answers(schema, registry=Registry()).is_valid(answer)
    except Exception:
        # jsonschema raises whatever a malformed schema makes its keywords
        # raise, besides what a spent budget and unknown references raise.
        return "unchecked"
    finally:
        _budget.reset(token)
    if not isValid:
        return "invalid"
    return "unchecked" if budget.leftOut else "valid"

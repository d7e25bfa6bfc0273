# -*- test-case-name: tests.api.test_body -*-
"""
The bytes of a request's body as plain objects, within limits, and what
msgspec says about them as an error with its C{param}.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from openai_server.errors import APIError

#: Arrays and objects that a body may hold, counted before anything is decoded:
#: three for each of 10,000 messages. Each of them costs time in many places.
MAX_CONTAINERS: Final = 2**15
#: Names and values that a body may hold: a dozen for each of 10,000 messages. Each
#: name that was not met before costs most of a microsecond.
MAX_VALUES: Final = 2**17
#: Levels of arrays and objects, the body's own object counted.
MAX_DEPTH: Final = 100

_decode = msgspec.json.Decoder().decode

_HIGH = rb"[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"[dD][c-fC-F][0-9a-fA-F]{2}"
# Begins with a literal, so that the search for it is a fast one.
_lone = re.compile(rb"\\u(?:%b(?!\\u%b)|(?<!\\u%b\\u)%b)" % (_HIGH, _LOW, _HIGH, _LOW))
_place = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_missing = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)

_Wanted = TypeVar("_Wanted")


def objectFromBody(body: bytes) -> dict[str, Any]:
    """
    A body as one JSON object. Of a key that comes twice the last one counts;
    escapes of lone surrogates become U+FFFD, and a byte order mark is skipped.

    @raise APIError: 400 without C{param}: not JSON, not UTF-8 anywhere, not
        an object, too many or too deeply nested containers.
    """
    containers = containersOf(body)
    decoded = _decoded(body.removeprefix(BOM_UTF8))
    if not isinstance(decoded, dict):
        raise APIError("bad_request", "The request body must be a JSON object.")
    if containers > MAX_DEPTH:
        checkDepth([decoded], 1)
    return decoded


def containersOf(body: bytes) -> int:
    """
    Return how many arrays and objects a body has at most.

    @raise APIError: 400, too many of them, or of names and values.
    """
    containers, values = _counts(body)
    if containers > MAX_CONTAINERS or values > MAX_VALUES:
        # Texts may have as many of these signs as they like.
        containers, values = _counts(_withoutStrings(body))
    if containers > MAX_CONTAINERS:
        raise APIError("bad_request", f"The request body has over {MAX_CONTAINERS} arrays and objects.")
    if values > MAX_VALUES:
        raise _tooManyValues()
    return containers


def _counts(text: bytes) -> tuple[int, int]:
    # Faster than counting each sign, and as fast when there are many.
    size = len(text)
    return size - len(text.translate(None, b"[{")), size - len(text.translate(None, b":,"))


def _withoutStrings(body: bytes) -> bytes:
    """
    Return what stands between the strings of a body, up to the first place
    where it is no JSON.

    @raise APIError: 400, there are too many strings.
    """
    # Without escapes each quotation mark begins a string or ends one.
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 2 * MAX_VALUES:
        raise _tooManyValues()
    return b"".join(plain.split(b'"')[::2])


def _tooManyValues() -> APIError:
    return APIError("bad_request", f"The request body has over {MAX_VALUES} names and values.")


def structFromBody(body: bytes, decode: Callable[[bytes], _Wanted]) -> _Wanted | None:
    """
    Return a body as the struct that a typed decoder makes of it in one pass,
    or None when it has to be read in another way, be it only to say what is
    wrong with it.

    What the decoder skips is neither counted for its depth nor decoded.
    """
    try:
        # The decoder does not read the strings that it skips, and the whole
        # body must be UTF-8.
        if not body.isascii():
            body.decode()
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(body: bytes) -> Any:
    # Decoding without a type reads every string, also those that nobody uses:
    # that is the check that the whole body is UTF-8.
    try:
        return _decode(body)
    except UnicodeDecodeError:
        raise APIError("invalid_json", "The request body is not valid UTF-8.") from None
    except RecursionError:
        raise _tooDeep() from None
    except msgspec.MsgspecError as error:
        whole = _withoutLoneSurrogates(body)
        if whole is not body:
            return _decoded(whole)
        said = _place.sub("", str(error))
        raise APIError("invalid_json", f"The request body is not valid JSON: {said}.") from None


def _withoutLoneSurrogates(body: bytes) -> bytes:
    # With other bytes for escaped backslashes only real escapes are left
    # behind a backslash. No JSON holds these bytes, and all of this runs in C,
    # whatever the body is made of.
    if b"\\u" not in body or b"\0" in body:
        return body
    marked = body.replace(rb"\\", b"\0\0")
    whole = _lone.sub(rb"\\ufffd", marked)
    return body if whole == marked else whole.replace(b"\0\0", rb"\\")


def checkDepth(level: list[Any], depth: int) -> None:
    """
    Check that nothing is nested deeper than L{MAX_DEPTH} levels.

    @param level: arrays and objects.
    @param depth: of these in their body, whose own object counts as 1.
    @raise APIError: 400.
    """
    for _ in range(MAX_DEPTH - depth + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise _tooDeep()


def _tooDeep() -> APIError:
    return APIError("bad_request", f"The request body is nested deeper than {MAX_DEPTH} levels.")


def converted(value: Any, kind: type[_Wanted], prefix: str = "") -> _Wanted:
    """
    A decoded value as a struct of this kind.

    @param prefix: where the value stands, for the C{param} of errors.
    @raise APIError: 400 with the C{param} of the field at fault.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _apiErrorFromValidation(str(error), prefix) from None


def _apiErrorFromValidation(said: str, prefix: str) -> APIError:
    found = _place.search(said)
    said = _place.sub("", said)
    param = (prefix + (found.group(1) if found else "")).replace("[...]", "").lstrip(".")
    missing = _missing.match(said)
    if missing:
        param = f"{param}.{missing.group(1)}".lstrip(".")
        return APIError("missing_required_parameter", f"Missing required parameter: '{param}'.", param=param)
    detail = said.replace("`", "")
    if ", got " in said:
        return APIError("invalid_type", f"Invalid type for '{param}': {_lowered(detail)}.", param=param)
    return APIError("invalid_value", f"Invalid value for '{param}': {_lowered(detail)}.", param=param)


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]

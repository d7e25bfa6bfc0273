# -*- test-case-name: tests.web.test_query -*-
"""
The fields of a request's query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from openai_server.errors import APIError
from openai_server.web.interfaces import Head

#: Items of one page, without a C{limit} and with the highest.
USUAL_LIMIT: Final = 20
HIGHEST_LIMIT: Final = 100
#: Fields of a query.
_FIELDS: Final = 100


def queryOf(request: Head) -> dict[str, str]:
    """
    Return the fields of a request's query; of several of one name the last
    counts, as in headers.

    @raise APIError: 400, there are too many.
    """
    return {name: value for name, value in _fieldsOf(request) if value}


def membersOf(request: Head, name: str) -> dict[str, str]:
    """
    Return the members of a field of a request's query that is an object, as in
    C{name[member]=value}.

    @raise APIError: 400, there are too many.
    """
    start = f"{name}["
    return {
        field.removeprefix(start).removesuffix("]"): value
        for field, value in _fieldsOf(request)
        if field.startswith(start) and field.endswith("]")
    }


def listOf(request: Head, name: str) -> list[str]:
    """
    Return the values of a field of a request's query that is a list: each in a
    field of that name, with or without brackets behind it.

    @raise APIError: 400, there are too many fields.
    """
    return [value for field, value in _fieldsOf(request) if value and field in (name, f"{name}[]")]


def _fieldsOf(request: Head) -> list[tuple[str, str]]:
    query = request.query.decode("utf-8", "replace")
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError:
        raise APIError("invalid_value", f"The query has more than {_FIELDS} fields.") from None


def oneOf(query: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    """
    Return the value of a field that has a few.

    @param known: all of them; the first is what stands for none.
    @raise APIError: 400, it is none of these.
    """
    value = query.get(name, known[0])
    if value not in known:
        raise APIError("invalid_value", f"Must be one of {', '.join(known)}.", param=name)
    return value


def numberOf(query: Mapping[str, str], name: str, usual: int, lowest: int, highest: int) -> int:
    """
    Return the value of a field that is a whole number.

    @param usual: what stands for none.
    @raise APIError: 400, it is no number from C{lowest} to C{highest}.
    """
    value = query.get(name)
    if value is None:
        return usual
    isNumber = value.isascii() and value.isdigit() and len(value) <= len(str(highest))
    if not isNumber or not lowest <= int(value) <= highest:
        raise APIError("invalid_value", f"Must be a number from {lowest} to {highest}.", param=name)
    return int(value)


def limitOf(query: Mapping[str, str]) -> int:
    """
    Return how many items a page is to have.

    @raise APIError: 400, not so many.
    """
    return numberOf(query, "limit", USUAL_LIMIT, 1, HIGHEST_LIMIT)


def isNewestFirst(query: Mapping[str, str], usual: str = "desc") -> bool:
    """
    Return whether a list is to begin with what came last.

    @param usual: the order that stands for none: C{asc} or C{desc}.
    @raise APIError: 400, there is no such order.
    """
    orders = ("desc", "asc") if usual == "desc" else ("asc", "desc")
    return oneOf(query, "order", orders) == "desc"

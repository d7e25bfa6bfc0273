# -*- test-case-name: tests.api.test_models -*-
"""
The list of models and its entries, as bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Model(msgspec.Struct, frozen=True):
    """
    One model as OpenAI lists it.

    @ivar created: seconds since 1970 when it was first seen.
    """

    id: str
    created: int
    object: str = "model"
    owned_by: str = "hum"


def modelBody(model: Model) -> bytes:
    """
    The answer to C{GET /v1/models/ID}.
    """
    return msgspec.json.encode(model)


def modelListBody(models: Iterable[Model]) -> bytes:
    """
    The answer to C{GET /v1/models}; with no worker connected an empty list.
    """
    return msgspec.json.encode({"object": "list", "data": list(models)})

# -*- test-case-name: tests.test_mounting -*-
"""
The server as a resource in a site of somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from msgspec import structs

from openai_server.clock import MonotonicClock
from openai_server.config.storage import VOLATILE
from openai_server.joining import Joining
from openai_server.service import OpenAIService
from openai_server.tap import Options
from openai_server.web.mounted import MountedResource

if TYPE_CHECKING:
    from openai_server.web.site import APISite


class ServedResource(MountedResource):
    """
    All routes, and what serves them.

    @ivar service: the way to the daemon and everything in between. It starts
        and stops with the application whose child it is made.
    """

    def __init__(self, service: OpenAIService) -> None:
        super().__init__(lambda: cast("APISite | None", service.front))
        self.service = service


def resourceFrom(options: Sequence[str], environ: Mapping[str, str]) -> ServedResource:
    """
    Return the resource that these options say. Its addresses are not opened.

    @raise twisted.python.usage.UsageError: they cannot be used.
    """
    from twisted.internet import reactor

    parsed = Options(environ)
    parsed.parseOptions(list(options))
    clock = MonotonicClock(reactor)
    loaded = parsed.loaded
    if loaded.sources["store"] == "default":
        # A part of somebody else's process makes no file that nobody has asked for.
        loaded = replace(loaded, configuration=structs.replace(loaded.configuration, store=VOLATILE))
    joining = Joining(reactor, clock, loaded, environ)
    drainTimeout = loaded.configuration.drainTimeout
    return ServedResource(OpenAIService(reactor, clock, (), drainTimeout, joining.join, joining.beside))

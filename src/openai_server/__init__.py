# -*- test-case-name: tests -*-
"""
openai-server: OpenAI's HTTP API in front of humd, the hum daemon.

A pure core of two vocabularies and a translator between them, thin I/O rooms
on either side, joined in L{openai_server.tap}:

  - C{wire}: the daemon's language, thrum: tones and ids. Pure.
  - C{api}: OpenAI's language: requests, answers, events. Pure.
  - C{translate}: where both languages meet. Pure.
  - C{sessions}: which sid a request gets, parked tool calls, turn slots,
    retries. Pure but for a clock.
  - C{daemon}: I/O to the daemon: protocol, link, turns, its registry file.
  - C{embedded}: a daemon in this process, as the real one behaves.
  - C{accounts}: keys, and the limits of their accounts.
  - C{web}: HTTP, the only room that imports klein.

C{tests/test_rooms.py} checks which room may import which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai_server.mounting import ServedResource

__version__ = "0.1.0"


def resource(*options: str, environ: Mapping[str, str] = os.environ) -> ServedResource:
    """
    Return all routes as a resource for a L{twisted.web.server.Site} of one's
    own, which opens no port. They answer while its C{service} runs.

    @param options: as on the command line of C{twistd openai-server}.
    @raise twisted.python.usage.UsageError: they cannot be used.
    """
    from openai_server.mounting import resourceFrom

    return resourceFrom(options, environ)

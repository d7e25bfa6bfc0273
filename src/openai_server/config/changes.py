# -*- test-case-name: tests.test_config -*-
"""
What another configuration changes while the server runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from openai_server.config.configuration import Configuration
from openai_server.config.settings import SETTINGS

#: The settings whose changes hold as soon as the file is read again.
LIVE: Final = frozenset(
    {
        *("apiKey", "models", "defaultModel", "logLevel"),
        *("maxTurns", "queueLength", "queueTimeout", "parkTimeout"),
        *("firstLifeTimeout", "stallTimeout", "turnTimeout"),
    }
)


def changed(
    before: Configuration, wanted: Configuration
) -> tuple[Configuration, Sequence[str], Sequence[str]]:
    """
    Return the configuration that holds from now on, the names of the settings
    that have changed in it, and those of the settings whose changes need a
    restart.
    """
    names = [
        each.name for each in SETTINGS if getattr(before, each.name) != getattr(wanted, each.name)
    ]
    live = [name for name in names if name in LIVE]
    holds = replace(before, **{name: getattr(wanted, name) for name in live})
    return holds, live, [name for name in names if name not in LIVE]

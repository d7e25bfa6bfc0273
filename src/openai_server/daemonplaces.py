# -*- test-case-name: tests.test_daemonplaces -*-
"""
Where the daemons are that a server asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from openai_server.config import Configuration, UpstreamSettings
from openai_server.daemon.paths import registryPath, socketPath


def placesFrom(configuration: Configuration, environ: Mapping[str, str]) -> Sequence[UpstreamSettings]:
    """
    Return those of the setting C{upstreams}, else the machine's one, which has
    no name.
    """
    if configuration.upstreams:
        return configuration.upstreams
    socket = configuration.thrumSocket or socketPath(environ, os.getuid())
    registry = configuration.registryFile or registryPath(environ)
    return (UpstreamSettings(name="", socket=socket, registry=registry),)

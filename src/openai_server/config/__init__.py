# -*- test-case-name: tests.test_config -*-
"""
Settings: command line over environment over configuration file over defaults.

L{Configuration} holds the values, and says for each setting what it may be and
what it does. The file, the environment, the command line, C{--print-config}
and the README's table are all derived from it.
"""

from openai_server.config.changes import changed
from openai_server.config.configuration import Configuration
from openai_server.config.folders import absolutePath, keyPath
from openai_server.config.layers import Loaded, load, whyKeyNeeded
from openai_server.config.settings import SETTINGS, ConfigurationError, Setting, markdownTable
from openai_server.config.storage import passwordsIn
from openai_server.config.upstreams import UpstreamSettings

__all__ = [
    "SETTINGS",
    "Configuration",
    "ConfigurationError",
    "Loaded",
    "Setting",
    "UpstreamSettings",
    "absolutePath",
    "changed",
    "keyPath",
    "load",
    "markdownTable",
    "passwordsIn",
    "whyKeyNeeded",
]

# -*- test-case-name: tests.test_config -*-
"""
Settings: command line over environment over configuration file over defaults.

L{Configuration} holds the values; L{SETTINGS} says once for each what it is
called everywhere, what it may be and what it does. The file, the environment,
the command line, C{--print-config} and the README's table are all derived
from these two.
"""

from openai_server.config.configuration import Configuration
from openai_server.config.folders import keyPath
from openai_server.config.layers import Loaded, load
from openai_server.config.reading import ConfigurationError
from openai_server.config.settings import SETTINGS, Setting, markdownTable

__all__ = [
    "SETTINGS",
    "Configuration",
    "ConfigurationError",
    "Loaded",
    "Setting",
    "keyPath",
    "load",
    "markdownTable",
]

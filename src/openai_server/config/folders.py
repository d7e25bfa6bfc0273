# -*- test-case-name: tests.test_config -*-
"""
Where a user's files are, as the XDG base directory specification has it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping


def homeFolder(environ: Mapping[str, str]) -> str | None:
    """
    The user's home, from the environment or the user database; None when
    neither knows.
    """
    if environ.get("HOME"):
        return environ["HOME"]
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def configPath(environ: Mapping[str, str]) -> str | None:
    """
    The configuration file when nobody names one; None without a home.
    """
    return _under(environ, "XDG_CONFIG_HOME", ".config", "hum/hives/openai-server.json")


def keyPath(environ: Mapping[str, str]) -> str | None:
    """
    The key file when nobody names one; None without a home.
    """
    return _under(environ, "XDG_STATE_HOME", ".local/state", "hum/bees/openai-server.key")


def statePath(environ: Mapping[str, str]) -> str | None:
    """
    The database when it is only said to be a file; None without a home.
    """
    return _under(environ, "XDG_STATE_HOME", ".local/state", "hum/openai-server.db")


def absolutePath(path: str, environ: Mapping[str, str]) -> str:
    """
    The path as it must be kept, since the process leaves its folder when it
    becomes a daemon. C{~} is the user's home.
    """
    home = homeFolder(environ)
    if home is not None and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return os.path.abspath(path)


def _under(environ: Mapping[str, str], variable: str, underHome: str, path: str) -> str | None:
    """
    A path in the folder that the variable names when it is absolute (another
    one is invalid, says the specification), else in the one under the home.
    """
    folder = environ.get(variable, "")
    if os.path.isabs(folder):
        return os.path.join(folder, path)
    home = homeFolder(environ)
    return None if home is None else os.path.join(home, underHome, path)

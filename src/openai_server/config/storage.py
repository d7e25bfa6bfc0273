# -*- test-case-name: tests.test_config -*-
"""
Where what lasts is kept: the values of the setting C{store}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from openai_server.config.folders import absolutePath, statePath

#: Nowhere: it ends with the process.
VOLATILE: Final = "memory:"
_FILE: Final = "sqlite:"
_SERVER: Final = "postgresql+psycopg:"

#: What the values are, to follow "is not".
STORES: Final = "memory:, sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE"


def storeURL(said: str, environ: Mapping[str, str]) -> str | None:
    """
    Return the URL that somebody means, with the file's path absolute. Only
    C{sqlite:} is the file in the state folder. None for what is none.
    """
    if said == VOLATILE:
        return said
    if said == _FILE:
        path = statePath(environ)
        return None if path is None else f"{_FILE}///{path}"
    if said.startswith(f"{_FILE}///") and not said.endswith("/") and "?" not in said:
        return f"{_FILE}///{absolutePath(said.removeprefix(_FILE + '///'), environ)}"
    try:
        isServer = said.startswith(f"{_SERVER}//") and urlsplit(said).port != 0
    except ValueError:
        return None
    return said if isServer else None


def passwordsIn(url: str) -> tuple[str, ...]:
    """
    Return the secrets in a URL, as they stand there and as they are meant.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return ()
    password = parts.netloc.rpartition("@")[0].partition(":")[2]
    query = [value for name, value in parse_qsl(parts.query) if "pass" in name]
    written = [field.partition("=")[2] for field in parts.query.split("&") if "pass" in field]
    found = {password, unquote(password), *query, *written} - {""}
    # One may be the beginning of another.
    return tuple(sorted(found, key=lambda each: (-len(each), each)))


def withoutPasswords(url: str) -> str:
    """
    Return a URL as it may be shown.
    """
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    netloc = f"{name}{colon}{'********' if password else ''}{at}{place}"
    pairs = [field.partition("=") for field in parts.query.split("&")]
    fields = [
        f"{name}=********" if "pass" in name else f"{name}{equals}{value}" for name, equals, value in pairs
    ]
    shown = urlunsplit((parts.scheme, netloc, parts.path, "&".join(fields), parts.fragment))
    return shown if parts.scheme.startswith("postgresql") else url

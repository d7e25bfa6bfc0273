# -*- test-case-name: tests.test_config -*-
"""
The configuration file, read and decoded.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from openai_server.config.kinds import Value
from openai_server.config.reading import ConfigurationError, guess, parsed, shown
from openai_server.config.settings import BY_NAME

#: A configuration file is a page of text; what is bigger is another file.
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Document:
    """
    A configuration file that was read.

    @ivar members: what it says, not yet looked at.
    @ivar isShared: others than its owner can read it.
    """

    path: str
    text: str
    members: Mapping[str, object]
    isShared: bool

    def values(self) -> Iterator[tuple[str, Value]]:
        """
        Its settings, checked.
        """
        for key, value in self.members.items():
            setting = BY_NAME.get(key)
            where = f"{self.path}{self._line(key)}"
            if setting is None:
                raise ConfigurationError(f"{where}: unknown key {shown(key)}{guess(key)}")
            if "file" not in setting.places:
                raise ConfigurationError(f"{where}: {key}: not in the file, only as {setting.variable}")
            yield key, parsed(f"{where}: {key}", setting, value, isText=False)

    def _line(self, key: str) -> str:
        found = re.search(re.escape(json.dumps(key)) + r"\s*:", self.text)
        return f" line {self.text.count(chr(10), 0, found.start()) + 1}" if found else ""


def readFile(path: str, mustExist: bool) -> Document:
    """
    @raise ConfigurationError: the file cannot be read or is no JSON object.
    """
    try:
        with open(path, "rb") as file:
            isShared = bool(os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH))
            content = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if mustExist:
            raise ConfigurationError(f"{path}: {error.strerror}") from None
        return Document(path, "", {}, False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"{path}: larger than {_MOST_BYTES} bytes")
    text, members = _decode(path, content)
    return Document(path, text, members, isShared)


def _decode(path: str, content: bytes) -> tuple[str, Mapping[str, object]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path} line {line}: not UTF-8") from None
    try:
        members = json.loads(text, object_pairs_hook=_onceEach, parse_constant=_refuseConstant)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path} line {error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {shown(str(error))[1:-1]}") from None
    if not isinstance(members, dict):
        raise ConfigurationError(f"{path}: not a JSON object")
    return text, members


def _onceEach(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice} is there twice")
    return members


def _refuseConstant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")

# -*- test-case-name: tests.embedded.test_daemon -*-
"""
The registry file, as the embedded daemon writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Members of a hello that a manifest keeps, and their names there.
_KEPT = {
    "name": "hive",
    "version": "version",
    "proto_version": "protoVersion",
    "bee": "bee",
    "tools": "tools",
    "provides": "provides",
    "hid": "hid",
    "propensity": "propensity",
    "bind": "bind",
}


def manifestFromHello(hello: Mapping[str, Any]) -> dict[str, Any]:
    """
    What the registry keeps of a hello; empty members are left out.
    """
    return {name: hello[member] for name, member in _KEPT.items() if hello.get(member)}


class RegistryFile:
    """
    The file: client id to manifest, replaced as a whole by renaming.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, manifests: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Write what is registered now. A folder that somebody has removed is not
        made anew: nobody would look there.
        """
        temporary = self._path.with_suffix(".new")
        with suppress(FileNotFoundError):
            temporary.write_text(json.dumps(manifests))
            os.replace(temporary, self._path)

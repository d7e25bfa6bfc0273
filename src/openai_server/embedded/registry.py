# -*- test-case-name: tests.embedded.test_daemon -*-
"""
The registry file, as the embedded daemon writes it.
"""

from __future__ import annotations

import json
import os
import stat
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
    Return what the registry keeps of a hello; empty members are left out.
    """
    return {name: hello[member] for name, member in _KEPT.items() if hello.get(member)}


def writeRegistry(path: Path, manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """
    Replace the file by one that says what is registered now, readable for its
    owner alone. A folder that somebody has removed is not made anew: nobody
    would look there.

    @param manifests: by client id.
    """
    temporary = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with suppress(FileNotFoundError):
        with open(os.open(temporary, flags, stat.S_IRUSR | stat.S_IWUSR), "w") as file:
            json.dump(manifests, file)
        os.replace(temporary, path)

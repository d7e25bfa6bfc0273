# -*- test-case-name: tests.admin.test_doctor -*-
"""
How the daemon is, and its workers: from its socket, its registry file and the
processes of this machine. Nothing is sent to it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from openai_server.admin.findings import Finding
from openai_server.admin.hearing import heardFrom
from openai_server.config import Configuration, UpstreamSettings
from openai_server.daemon.paths import socketProblem
from openai_server.daemon.registry import beesFromFile
from openai_server.daemonplaces import placesFrom
from openai_server.wire.tones import PROTO_VERSION

#: Seconds in which a daemon says that it is there.
_PATIENCE: Final = 2.0
#: Bytes of what it says first, at most.
_LONGEST: Final = 1 << 20
#: The option of a socket that tells whose it is; None where the system has none.
_WHO: Final[int | None] = getattr(socket, "SO_PEERCRED", None)
#: Seconds after which the claude CLI gives up on a call, unless it is told otherwise.
CLI_PATIENCE: Final = 60.0
_VARIABLE: Final = b"MCP_TOOL_TIMEOUT="

_START: Final = "start humd, or name its socket in HUM_THRUM_SOCK"
_REGISTRY: Final = (
    "name the file in OPENAI_SERVER_REGISTRY_FILE, if the daemon's state folder is another one"
)
_REGISTRY_NAMED: Final = "correct it in the setting upstreams"
_START_NAMED: Final = "start that humd, or correct its socket in the setting upstreams"


def daemonFindings(
    configuration: Configuration, environ: Mapping[str, str], proc: Path = Path("/proc")
) -> Iterator[Finding]:
    """
    Yield what is found, one thing after the other.

    @param proc: where the system shows its processes.
    """
    places = placesFrom(configuration, environ)
    for place in places:
        for finding in _socketFindings(place.socket, proc):
            yield _named(place.name, finding) if place.name else finding
    yield _workersFinding(places, configuration)
    yield _timeOutFinding(configuration, proc)


def _named(name: str, finding: Finding) -> Finding:
    """
    Return the same of one of several daemons.
    """
    remedy = _START_NAMED if finding.remedy == _START else finding.remedy
    return replace(finding, what=f"{finding.what} of {name}", remedy=remedy)


def _socketFindings(path: str, proc: Path) -> Iterator[Finding]:
    problem = socketProblem(path, os.getuid())
    if problem is not None:
        yield Finding("socket", problem, _START)
    else:
        yield from _connectionFindings(path, proc)


def _connectionFindings(path: str, proc: Path) -> Iterator[Finding]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(path)
        except OSError as error:
            yield Finding("socket", f"{path}: {error.strerror or error}", _START)
            return
        yield Finding("socket", f"{path}, of {_ownerOf(connection, proc)}")
        yield _breathFinding(connection)


def _ownerOf(connection: socket.socket, proc: Path) -> str:
    if _WHO is None:
        return "another process"
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, _WHO, struct.calcsize("3i")))
    name = "a process"
    with suppress(OSError):
        name = (proc / str(pid) / "comm").read_text().strip()
    return f"{name} (process {pid}, user {uid})"


def _breathFinding(connection: socket.socket) -> Finding:
    try:
        said = heardFrom(connection, _PATIENCE, _LONGEST, until=b"\n")
        breath: Any = msgspec.json.decode(said.partition(b"\n")[0])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        breath = None
    if not isinstance(breath, dict) or breath.get("chi") != "breath":
        return Finding("daemon", "whoever listens there does not speak as humd does", _START)
    version = str(breath.get("protoVersion"))[:40]
    if version != PROTO_VERSION:
        return Finding(
            "daemon",
            f"it speaks version {version} of its protocol, and this server {PROTO_VERSION}",
            "use a humd of that version, or an openai-server of the daemon's",
        )
    return Finding("daemon", f"speaks version {version} of its protocol")


def _workersFinding(places: Sequence[UpstreamSettings], configuration: Configuration) -> Finding:
    files = [place.registry for place in places if place.registry is not None]
    if not files:
        return Finding("workers", "not known: the setting upstreams names no registry")
    found = {file: beesFromFile(file) for file in files}
    for file, bees in found.items():
        if bees is None:
            said = f"the daemon's registry cannot be read: {file}"
            return Finding("workers", said, _REGISTRY_NAMED if configuration.upstreams else _REGISTRY)
    bees = [bee for each in found.values() for bee in each or ()]
    served = list(dict.fromkeys(model for bee in bees for model in bee.models))
    if not served:
        return Finding("workers", "none is connected to the daemon", "start one, as hum's manual says")
    count = sum(1 for bee in bees if bee.models)
    # Those of a registry that is not named may serve it.
    isAll = len(files) == len(places)
    missing = [model for model in configuration.models if model not in served]
    if missing and isAll:
        return Finding(
            "workers",
            f"none serves {', '.join(missing)}, which the setting models names",
            "start one that does, or change the setting",
        )
    return Finding("workers", f"{count}, with the models {', '.join(served[:20])}")


def _timeOutFinding(configuration: Configuration, proc: Path) -> Finding:
    """
    Return whether the CLI waits for a tool's result for as long as this server
    does.
    """
    known = _cliPatience(proc)
    patience = CLI_PATIENCE if known is None else known
    how = "unless it is told otherwise" if known is None else "as its environment says"
    own = f"parkTimeout is {configuration.parkTimeout:g} s"
    said = f"the claude CLI gives up after {patience:g} s, {how}; {own}"
    if configuration.parkTimeout < patience:
        return Finding("tool calls", said)
    wanted = int(configuration.parkTimeout * 1000) + 10_000
    return Finding(
        "tool calls",
        said,
        f"put MCP_TOOL_TIMEOUT={wanted} into the environment of hum's claude worker, or lower parkTimeout",
    )


def _cliPatience(proc: Path) -> float | None:
    """
    Return the shortest time-out of the CLIs that run, in seconds; None where
    none is seen.
    """
    found: list[float] = []
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == "claude":
                said = (process / "environ").read_bytes().split(b"\0")
                given = [each.removeprefix(_VARIABLE) for each in said if each.startswith(_VARIABLE)]
                isNumber = bool(given) and given[0].isdigit()
                found.append(int(given[0]) / 1000 if isNumber else CLI_PATIENCE)
    return min(found, default=None)

# -*- test-case-name: tests.test_config -*-
"""
Who could reach an address: this machine alone, or others too.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

#: Connections that may wait to be taken in. With Twisted's 50 the system drops
#: some of a burst, whose clients try again a second later.
BACKLOG: Final = 1024


def isLoopback(host: str) -> bool:
    """
    Only this machine can reach the address. A name other than C{localhost}
    is never looked up, and counts as reachable.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def isPrivate(description: str) -> bool:
    """
    What listens by this endpoint string can be reached from this machine
    only: an address that says C{interface=} with a loopback address, or a
    Unix socket. What does not show its address (a socket that systemd passes
    on, an endpoint of some plugin) counts as reachable by others.
    """
    plain, named = _arguments(description)
    name = plain[0] if plain else ""
    if name in ("tcp", "tcp6", "ssl"):
        return isLoopback(named.get("interface", ""))
    return name == "unix" or (name == "systemd" and named.get("domain") == "UNIX")


def withSocketMode(description: str) -> str:
    """
    The same endpoint string, but a Unix socket that says no mode is for its
    owner alone: Twisted's default lets every user of this machine in.
    """
    plain, named = _arguments(description)
    isOpen = plain[:1] == ["unix"] and len(plain) + ("address" in named) == 2 and "mode" not in named
    return f"{description}:mode=600" if isOpen else description


def descriptionOfProcess(description: str, number: int) -> str | None:
    """
    Return where the process of this number has a port for itself alone: on the
    next port for each, or on a Unix socket with C{-NUMBER} behind its name.

    @param description: the endpoint string of the first one.
    @param number: counted from 1.
    @return: None where there can be no other one.
    """
    if number == 1:
        return description
    kind, _, rest = description.partition(":")
    if kind in ("tcp", "tcp6", "ssl"):
        found = re.search(r"(?:^|(?<!\\):)(?:port=)?(\d+)(?=:|$)", rest)
        if found is not None:
            port = int(found[1]) and int(found[1]) + number - 1
            return f"{kind}:{rest[: found.start(1)]}{port}{rest[found.end(1) :]}"
    elif kind == "unix":
        found = re.match(r"(?:address=)?(?:\\.|[^:\\])+", rest)
        if found is not None:
            return f"{kind}:{found[0]}-{number}{rest[found.end() :]}"
    return None


def descriptionFromAddress(host: str, port: int) -> str:
    protocol = "tcp6" if ":" in host else "tcp"
    return f"{protocol}:{port}:interface={host.replace(':', chr(92) + ':')}:backlog={BACKLOG}"


def _arguments(description: str) -> tuple[list[str], dict[str, str]]:
    """
    The plain arguments of an endpoint string, its type the first of them, and
    the named ones; backslashes undone.
    """
    plain: list[str] = []
    named: dict[str, str] = {}
    for part in re.findall(r"(?:\\.|[^:\\])+", description.removeprefix("haproxy:"), re.DOTALL):
        name, *value = re.split(r"(?<!\\)=", part, maxsplit=1)
        if value:
            named[_plain(name)] = _plain(value[0])
        else:
            plain.append(_plain(name))
    return plain, named


def _plain(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)

# -*- test-case-name: tests.test_config -*-
"""
Who could reach an address: this machine alone, or others too.
"""

from __future__ import annotations

import ipaddress
import re


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
    name, *arguments = _split(description.removeprefix("haproxy:"))
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if name in ("tcp", "tcp6", "ssl"):
        return isLoopback(named.get("interface", ""))
    return name == "unix" or (name == "systemd" and named.get("domain") == "UNIX")


def descriptionFromAddress(host: str, port: int) -> str:
    protocol = "tcp6" if ":" in host else "tcp"
    return f"{protocol}:{port}:interface={host.replace(':', chr(92) + ':')}"


def _split(description: str) -> list[str]:
    """
    The parts of an endpoint string, backslashes undone.
    """
    parts = re.findall(r"(?:\\.|[^:\\])*", description, re.DOTALL)
    texts = [re.sub(r"\\(.)", r"\1", part) for part in parts]
    return [text for text in texts if text] or [""]

# -*- test-case-name: tests.test_greeting -*-
"""
What the server says first: where it listens, what it offers, and how to go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

#: How this machine reaches itself, by what a socket is bound to that takes
#: connections to all of its addresses.
_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Bound:
    """
    An address that was really bound.

    @ivar description: the endpoint string that asked for it.
    """

    description: str
    address: IAddress

    @property
    def scheme(self) -> str:
        """
        C{https} where the endpoint speaks TLS, else C{http}.
        """
        return "https" if self.description.startswith("ssl:") else "http"

    @property
    def hostAndPort(self) -> tuple[str, int] | None:
        """
        Of a TCP address; None for any other.
        """
        if isinstance(self.address, (IPv4Address, IPv6Address)):
            return self.address.host, self.address.port
        return None

    def __str__(self) -> str:
        """
        As a URL where there is one, for the operator.
        """
        if isinstance(self.address, UNIXAddress):
            return f"unix:{os.fsdecode(self.address.name or b'')}"
        if self.hostAndPort is None:
            return self.description
        host, port = self.hostAndPort
        return f"{self.scheme}://{_inURL(host)}:{port}"


@dataclass(frozen=True)
class Greeting:
    """
    What somebody who has just started the server wants to know.

    @ivar models: those that are known now.
    @ivar daemons: the socket of each by its name, which is empty where it is
        the only one; none: there is the embedded one.
    """

    version: str
    addresses: Sequence[Bound]
    models: Sequence[str]
    daemons: Mapping[str, str]
    hasKey: bool

    def lines(self) -> Iterator[str]:
        """
        The sentences, each on its own line.
        """
        where = ", ".join(map(str, self.addresses))
        key = "an API key is required" if self.hasKey else "no API key is required"
        place = f"listens on {where}" if where else "is served by a site of this process"
        yield f"openai-server {self.version} {place}; {key}"
        yield from self._nearAddress()
        yield f"models: {', '.join(self.models) or 'none yet; those of workers appear when they connect'}"
        if not self.daemons:
            yield (
                "this is the embedded daemon, for trying things out; for a real one start humd,"
                " then this server without --embedded (HUM_THRUM_SOCK names its socket)"
            )
        for name, socket in self.daemons.items():
            yield f"the daemon{name and ' '}{name}'s socket: {socket}"

    def _nearAddress(self) -> Iterator[str]:
        """
        For a client and for a browser: the first address that a URL can be made
        of.
        """
        first = next((bound for bound in self.addresses if bound.hostAndPort), None)
        if first is None or first.hostAndPort is None:
            return
        host, port = first.hostAndPort
        near = _inURL(_NEAR.get(host, host))
        others = f" (from other machines, this one's address in place of {near})" if host in _NEAR else ""
        yield f"base URL for OpenAI clients: {first.scheme}://{near}:{port}/v1{others}"
        yield f"page to try it and to see what it does: {first.scheme}://{near}:{port}/"


def _inURL(host: str) -> str:
    return f"[{host}]" if ":" in host else host

# -*- test-case-name: tests.admin.test_installing -*-
"""
The files by which systemd and launchd run the server, as text.
"""

from __future__ import annotations

import plistlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

#: Stands in each file that is ours to replace and to remove.
MARK: Final = "Written by python -m openai_server.admin install"

#: Seconds without a sign of life after which systemd starts the server anew.
_WATCHDOG: Final = 60

#: Seconds beyond the drain that the rest of a stop may take.
_STOP_MARGIN: Final = 10

_SYSTEM_WALLS: Final = (
    "CapabilityBoundingSet=",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictNamespaces=yes",
)


class Server(msgspec.Struct, frozen=True):
    """
    What is to be run.

    @ivar twistd: the path of that program.
    @ivar arguments: what the plugin is given.
    @ivar environ: what the server is to find in its environment.
    @ivar drainTimeout: seconds for open answers at a stop.
    @ivar user: as whom a system's service runs; None for a user's own service.
    @ivar secrets: a file with further lines for its environment, which need not be there.
    @ivar address: where systemd listens for it, as in C{127.0.0.1:14620}; None where
        it listens itself.
    """

    twistd: str
    arguments: Sequence[str]
    environ: Mapping[str, str]
    drainTimeout: float
    user: str | None
    secrets: str
    address: str | None

    @property
    def texts(self) -> Iterator[str]:
        """
        All that stands in its files in somebody's words.
        """
        yield from (*self.command, *self.environ.values(), self.secrets, self.address or "")

    @property
    def command(self) -> list[str]:
        """
        The whole command line.
        """
        return [self.twistd, "--nodaemon", "--pidfile=", "openai-server", *self.arguments]


def serviceUnit(server: Server) -> str:
    """
    Return the text of a C{.service} file.
    """
    lines = [
        f"# {MARK}",
        "[Unit]",
        "Description=OpenAI API in front of hum",
        "After=network.target",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(map(_argument, server.command))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *([] if server.user is None else [f"User={server.user}"]),
        *(f"Environment={_word(f'{name}={value}')}" for name, value in server.environ.items()),
        f"EnvironmentFile=-{_line(server.secrets)}",
        "Restart=on-failure",
        "RestartSec=1",
        f"WatchdogSec={_WATCHDOG}",
        f"TimeoutStopSec={round(server.drainTimeout) + _STOP_MARGIN}",
        "LimitNOFILE=65536",
        "MemoryMax=2G",
        "UMask=0077",
        "NoNewPrivileges=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "SystemCallArchitectures=native",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        # No PrivateTmp: the daemon's socket may be in /tmp.
        "ProtectSystem=full",
        # A user's own manager has not the right to the others.
        *([] if server.user is None else _SYSTEM_WALLS),
        "",
        "[Install]",
        f"WantedBy={'default.target' if server.user is None else 'multi-user.target'}",
    ]
    return "\n".join(lines) + "\n"


def socketUnit(server: Server) -> str:
    """
    Return the text of a C{.socket} file: systemd listens, and starts the server
    at the first connection.
    """
    lines = [
        f"# {MARK}",
        "[Unit]",
        "Description=Where the OpenAI API in front of hum listens",
        "",
        "[Socket]",
        f"ListenStream={_line(server.address or '')}",
        "Backlog=1024",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def launchdJob(server: Server, label: str, log: str) -> str:
    """
    Return the text of a launchd property list.

    @param log: the path of the file that takes the server's log.
    """
    job: dict[str, object] = {
        "Label": label,
        "ProgramArguments": server.command,
        "EnvironmentVariables": dict(server.environ),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 1,
        "ExitTimeOut": round(server.drainTimeout) + _STOP_MARGIN,
        "SoftResourceLimits": {"NumberOfFiles": 65536},
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
        **({} if server.user is None else {"UserName": server.user}),
    }
    text = plistlib.dumps(job, sort_keys=False).decode("utf-8")
    return text.replace("<plist ", f"<!-- {MARK} -->\n<plist ", 1)


def _argument(text: str) -> str:
    """
    A word of a command line, where C{$} would begin a variable.
    """
    return _word(text.replace("$", "$$"))


def _word(text: str) -> str:
    """
    A word as systemd.syntax(7) quotes it.
    """
    plain = _line(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"' if set(plain) & set(" \t\"'\\;") or not plain else plain


def _line(text: str) -> str:
    """
    A value that goes on to the end of its line, as paths do, where C{%} would
    begin a specifier.
    """
    return text.replace("%", "%%")

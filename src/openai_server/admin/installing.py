# -*- test-case-name: tests.admin.test_installing -*-
"""
The server as a service of systemd or launchd: what is written where, and what
is run to make it so.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from openai_server.admin.units import MARK, Server, launchdJob, serviceUnit, socketUnit
from openai_server.config import Configuration
from openai_server.config.folders import configPath, homeFolder

#: How launchd calls the server.
LABEL: Final = "hum.openai-server"

_SERVICE: Final = "openai-server.service"
_SOCKET: Final = "openai-server.socket"

#: What a server finds its files and its daemon by.
_PASSED_ON: Final = (
    "HUM_THRUM_SOCK",
    "HUM_SOCKET",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
)

#: What would end a line of a file, or cannot be written to one.
_UNFIT: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class InstallError(Exception):
    """
    It cannot be installed or removed. The text is one line that says why.
    """


_NO_HOME: Final = InstallError("there is no home folder for the server's files: set HOME")


class Installation(msgspec.Struct, frozen=True):
    """
    What makes a service of the server.

    @ivar files: texts by path.
    @ivar starting: commands that start it now and at every boot or login.
    @ivar rival: a file of another installation that would take its port.
    """

    files: Mapping[Path, str]
    starting: Sequence[Sequence[str]]
    rival: Path | None = None


class Removal(msgspec.Struct, frozen=True):
    """
    What undoes an installation.

    @ivar paths: of all files that one may have written.
    @ivar stopping: a command that stops it, now and for good; behind it stand
        the names of those files that are there, where C{isByName}.
    @ivar settling: a command that tells of files that are gone; empty where
        none is needed.
    """

    paths: Sequence[Path]
    stopping: Sequence[str]
    isByName: bool
    settling: Sequence[str]


class ServiceKind(msgspec.Struct, frozen=True):
    """
    What kind of service somebody asked for.

    @ivar user: whose server it is; for a service of the system alone.
    @ivar config: the configuration file that was named.
    """

    isSystem: bool
    hasSocket: bool
    user: str | None
    config: str | None


def installationFor(
    wanted: ServiceKind,
    configuration: Configuration,
    environ: Mapping[str, str],
    platform: str = sys.platform,
) -> Installation:
    """
    Return what is to be written and run.

    @raise InstallError: it cannot be had.
    """
    server = _server(wanted, configuration, environ)
    for text in server.texts:
        if _UNFIT.search(text):
            raise InstallError(f"{text!r} cannot stand in a service's file: change that path or variable")
    of = _ofLaunchd if platform == "darwin" else _ofSystemd
    return of(wanted, server, environ)


# What is to be run.


def _server(wanted: ServiceKind, configuration: Configuration, environ: Mapping[str, str]) -> Server:
    environ = _environOf(wanted, environ)
    arguments = [] if wanted.config is None else ["--config", os.path.abspath(wanted.config)]
    if wanted.hasSocket:
        if configuration.apiKey is None and not configuration.insecureNoAuth:
            raise InstallError(
                "--socket needs an API key: the server cannot see where systemd listens. Set apiKey in the"
                " configuration file"
            )
        arguments += ["--listen", "systemd:domain=INET:index=0"]
    host = f"[{configuration.host}]" if ":" in configuration.host else configuration.host
    passed = {name: environ[name] for name in _PASSED_ON if environ.get(name)}
    if wanted.isSystem and environ.get("XDG_RUNTIME_DIR"):
        passed["XDG_RUNTIME_DIR"] = environ["XDG_RUNTIME_DIR"]
    config = configPath(environ)
    if config is None:
        raise _NO_HOME
    return Server(
        twistd=str(Path(sys.executable).with_name("twistd")),
        arguments=arguments,
        environ=passed,
        drainTimeout=configuration.drainTimeout,
        user=wanted.user if wanted.isSystem else None,
        secrets=str(Path(config).with_suffix(".env")),
        address=f"{host}:{configuration.port}" if wanted.hasSocket else None,
    )


def _environOf(wanted: ServiceKind, environ: Mapping[str, str]) -> Mapping[str, str]:
    """
    Return the environment of the server's user: that of root tells nothing of it.

    @raise InstallError: there is no such user.
    """
    if not wanted.isSystem or wanted.user is None:
        return environ
    try:
        user = pwd.getpwnam(wanted.user)
    except KeyError:
        raise InstallError(f"--user: there is no user {wanted.user!r}") from None
    sockets = {name: environ[name] for name in ("HUM_THRUM_SOCK", "HUM_SOCKET") if environ.get(name)}
    return {"HOME": user.pw_dir, "XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}", **sockets}


# Whose files they are.


def _ofSystemd(wanted: ServiceKind, server: Server, environ: Mapping[str, str]) -> Installation:
    folder, systemctl = _systemd(wanted.isSystem, environ)
    files = {folder / _SERVICE: serviceUnit(server)}
    if wanted.hasSocket:
        files[folder / _SOCKET] = socketUnit(server)
    unit = _SOCKET if wanted.hasSocket else _SERVICE
    starting = [[*systemctl, "daemon-reload"], [*systemctl, "enable", "--now", unit]]
    return Installation(files, starting, None if wanted.hasSocket else folder / _SOCKET)


def _ofLaunchd(wanted: ServiceKind, server: Server, environ: Mapping[str, str]) -> Installation:
    if wanted.hasSocket:
        raise InstallError("--socket is systemd's: launchd hands its sockets out in another way")
    path, domain = _launchd(wanted.isSystem, environ)
    log = str(path.parent.parent / "Logs" / "openai-server.log")
    return Installation(
        {path: launchdJob(server, LABEL, log)}, [["launchctl", "bootstrap", domain, str(path)]]
    )


def removalFor(isSystem: bool, environ: Mapping[str, str], platform: str = sys.platform) -> Removal:
    """
    Return what undoes whatever was installed.

    @raise InstallError: nobody can tell where that is.
    """
    if platform == "darwin":
        path, domain = _launchd(isSystem, environ)
        return Removal([path], ["launchctl", "bootout", f"{domain}/{LABEL}"], False, [])
    folder, systemctl = _systemd(isSystem, environ)
    paths = [folder / _SOCKET, folder / _SERVICE]
    return Removal(paths, [*systemctl, "disable", "--now"], True, [*systemctl, "daemon-reload"])


def _systemd(isSystem: bool, environ: Mapping[str, str]) -> tuple[Path, list[str]]:
    if isSystem:
        return Path("/etc/systemd/system"), ["systemctl"]
    config = configPath(environ)
    if config is None:
        raise _NO_HOME
    return Path(config).parents[2] / "systemd/user", ["systemctl", "--user"]


def _launchd(isSystem: bool, environ: Mapping[str, str]) -> tuple[Path, str]:
    if isSystem:
        return Path("/Library/LaunchDaemons") / f"{LABEL}.plist", "system"
    home = homeFolder(environ)
    if home is None:
        raise _NO_HOME
    return Path(home) / "Library/LaunchAgents" / f"{LABEL}.plist", f"gui/{os.getuid()}"


# Doing it.

#: Runs a command, and returns its exit code.
Run = Callable[[Sequence[str]], int]


def run(command: Sequence[str]) -> int:
    """
    Run a command with this process's output.

    @return: its exit code; 127 where there is no such command.
    """
    with suppress(OSError):
        return subprocess.run(command, check=False, timeout=120).returncode
    return 127


def install(plan: Installation, isToStart: bool, run: Run = run) -> Iterator[str]:
    """
    Write the files, and start the service.

    @return: what was done, a line each, and how to undo it.
    @raise InstallError: a file of somebody else's is in the way, or cannot be
        written, or a command failed.
    """
    if plan.rival is not None and plan.rival.exists():
        raise InstallError(f"{plan.rival} is there from an installation with --socket: uninstall that first")
    for path in plan.files:
        _checkOurs(path)
    for path, text in plan.files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InstallError(f"cannot write {path}: {error.strerror}") from None
        yield f"wrote {path}"
    for command in plan.starting:
        said = " ".join(command)
        if not isToStart:
            yield f"to start it: {said}"
        elif run(command):
            raise InstallError(f"{said} failed; the files are there. Run it by hand, or undo with uninstall")
        else:
            yield f"ran {said}"


def uninstall(removal: Removal, run: Run = run) -> Iterator[str]:
    """
    Stop the service, and remove its files.

    @return: what was done, a line each.
    @raise InstallError: nothing is installed, or a file is somebody else's, or
        cannot be removed.
    """
    there = [path for path in removal.paths if path.exists()]
    if not there:
        raise InstallError(f"nothing is installed: there is no {removal.paths[-1]}")
    for path in there:
        _checkOurs(path)
    stopping = [*removal.stopping, *([path.name for path in there] if removal.isByName else [])]
    # One that does not run cannot be stopped.
    yield f"{'ran' if run(stopping) == 0 else 'tried'} {' '.join(stopping)}"
    for path in there:
        try:
            path.unlink()
        except OSError as error:
            raise InstallError(f"cannot remove {path}: {error.strerror}") from None
        yield f"removed {path}"
    if removal.settling:
        run(removal.settling)


def _checkOurs(path: Path) -> None:
    try:
        isOurs = not path.exists() or MARK in path.read_text(errors="replace")
    except OSError as error:
        raise InstallError(f"cannot read {path}: {error.strerror}") from None
    if not isOurs:
        raise InstallError(f"{path} is not of this program's making; move it away first")

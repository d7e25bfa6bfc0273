# -*- test-case-name: tests.admin.test_doctor -*-
"""
Looks at all that a server needs, and says on one line each what is wrong and
how to mend it. Nothing is changed by that, here or at the daemon.
"""

from __future__ import annotations

import errno
import os
import platform
import resource
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

import openai_server
from openai_server.admin.daemonchecks import daemonFindings
from openai_server.admin.findings import Finding
from openai_server.admin.hearing import heardFrom
from openai_server.config import Configuration, Loaded, keyPath, whyKeyNeeded
from openai_server.identity import keyProblem
from openai_server.store.administration import Administration
from openai_server.store.interfaces import StoreError
from openai_server.store.keyadministration import KeyAdministration
from openai_server.store.location import Location

#: Bytes that should be left on a disk.
_LEAST_ROOM: Final = 200 * 2**20
#: Files that a server opens beside connections.
_OTHER_FILES: Final = 64
#: Seconds that another program on the port has to say what it is.
_PATIENCE: Final = 2.0
#: Bytes of what it says, at most.
_LONGEST: Final = 8192
#: Seconds by which clocks may differ.
_CLOCKS_DIFFER: Final = 60.0
#: What helps with a store, by the words that tell of its trouble.
_REMEDIES: Final = {
    "unreachable": "start the database, or correct the setting store",
    "newer": "install that version, or name another store",
    "not installed": "install it",
    "read-only": "let this user write that file and its folder",
    "corrupt": "the server moves it aside at its start; bring back a copy if there is one",
}
_OTHERWISE: Final = "start the server with it, and see what its log says"


def findings(loaded: Loaded, environ: Mapping[str, str], now: float) -> Iterator[Finding]:
    """
    Yield what is found, one thing after the other.

    @param now: in seconds since 1970.
    """
    configuration = loaded.configuration
    yield _python()
    for warning in loaded.warnings:
        yield Finding("settings", warning, "change that")
    if configuration.embedded:
        yield Finding("daemon", "is embedded: no other one is asked")
    else:
        yield from daemonFindings(configuration, environ)
    yield _port(configuration)
    yield _key(configuration, environ)
    yield _apiKeys(configuration, now)
    yield from _store(configuration, now)
    yield _clock(now)
    yield _files(configuration)
    if configuration.auditLog is not None:
        yield _auditLog(configuration.auditLog)


def _python() -> Finding:
    said = f"{platform.python_version()} at {sys.executable}, openai-server {openai_server.__version__}"
    if "openai-server" not in {each.tapname for each in getPlugins(IServiceMaker)}:
        remedy = "install openai-server with the pip of this Python"
        return Finding("Python", f"{said}: twistd does not find the plugin", remedy)
    return Finding("Python", said)


# The port.


def _port(configuration: Configuration) -> Finding:
    if configuration.listen:
        return Finding("port", f"not looked at: the setting listen says {', '.join(configuration.listen)}")
    host, port = configuration.host, configuration.port
    where = f"{host}:{port}"
    if port == 0:
        return Finding("port", "any that is free")
    who = _listenerAt(host, port)
    if who is not None:
        said = f"{where} is taken by {who}"
        if who.startswith("openai-server"):
            return Finding("port", said)
        return Finding("port", said, "stop that, or choose another one with OPENAI_SERVER_PORT")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        remedy = "choose another one with OPENAI_SERVER_PORT and OPENAI_SERVER_HOST"
        if error.errno == errno.EACCES:
            remedy = "choose one above 1023 with OPENAI_SERVER_PORT"
        return Finding("port", f"{where}: {error.strerror or error}", remedy)
    return Finding("port", f"{where} is free")


def _listenerAt(host: str, port: int) -> str | None:
    """
    Return who listens there; None for nobody.
    """
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        connection = socket.create_connection((local, port), _PATIENCE)
    except OSError:
        return None
    with closing(connection):
        try:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            said = heardFrom(connection, _PATIENCE, _LONGEST)
            about = msgspec.json.decode(said.partition(b"\r\n\r\n")[2], type=dict[str, str])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return "another program"
    if about.get("name") != "openai-server":
        return "another program"
    return f"openai-server {about.get('version', '')[:40]}"


# Keys.


def _key(configuration: Configuration, environ: Mapping[str, str]) -> Finding:
    path = configuration.keyFile or keyPath(environ)
    if path is None:
        return Finding("key file", "there is no home folder for it", "set OPENAI_SERVER_KEY_FILE")
    problem = keyProblem(path)
    if problem is not None:
        return Finding("key file", f"{path}: {problem}", "mend that, or move the file away: another is made")
    if os.path.exists(path):
        return Finding("key file", path)
    folder = next(each for each in Path(path).parents if each.is_dir())
    if not os.access(folder, os.W_OK):
        return Finding("key file", f"{folder} cannot be written to", "let this user write there")
    return Finding("key file", f"{path} is made at the first start")


def _apiKeys(configuration: Configuration, now: float) -> Finding:
    count = _keysIn(configuration.store, now) + (configuration.apiKey is not None)
    if count:
        return Finding("API keys", f"{count}: each request needs one")
    why = whyKeyNeeded(configuration)
    if why is None and configuration.insecureNoAuth:
        why = "there is none, and others may reach the server"
    if why is not None:
        return Finding("API keys", why, "add one with python -m openai_server.admin keys add NAME")
    return Finding("API keys", "none: whoever reaches the port may ask")


def _keysIn(url: str, now: float) -> int:
    """
    Return how many keys a store has; none where it cannot be asked.
    """
    with suppress(StoreError), closing(Administration(url)) as store:
        return len(KeyAdministration(store, now).list())
    return 0


# The store.


def _store(configuration: Configuration, now: float) -> Iterator[Finding]:
    url = configuration.store
    if url == "memory:":
        yield Finding("store", "memory: nothing outlasts a restart")
        return
    try:
        path = Location(url).path
        if path is not None:
            yield _room(path)
            if not path.exists():
                yield Finding("store", f"{path} is made at the first start")
                return
        store = Administration(url)
        with closing(store):
            summary = store.summary(now)
            differs = store.clockDifference()
    except StoreError as error:
        said = str(error).removeprefix("store ")
        remedy = next((each for words, each in _REMEDIES.items() if words in said), _OTHERWISE)
        yield Finding("store", said, remedy)
        return
    yield Finding("store", f"{store.where}: {summary.size:,} bytes, {summary.sessions:,} sessions")
    if abs(differs) > _CLOCKS_DIFFER:
        said = f"that of the database's machine differs by {differs:.0f} s"
        yield Finding("clock", said, "let both machines follow a time server")


def _room(path: Path) -> Finding:
    folder = next(each for each in path.parents if each.is_dir())
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**20:,.0f} MiB are free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", f"{folder} cannot be written to", "let this user write there")
    return Finding("disk", said, "make room" if free < _LEAST_ROOM else None)


# The machine.


def _clock(now: float) -> Finding:
    said = f"it is {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} in UTC"
    installed = Path(openai_server.__file__).stat().st_mtime
    if now < installed - _CLOCKS_DIFFER:
        remedy = "let this machine follow a time server"
        return Finding("clock", f"{said}, which is before this server was installed", remedy)
    return Finding("clock", said)


def _files(configuration: Configuration) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = configuration.maxConnections + _OTHER_FILES
    if most == resource.RLIM_INFINITY or most >= wanted:
        return Finding("file limit", f"{'none' if most == resource.RLIM_INFINITY else most}")
    said = f"{most} files may be open, and maxConnections is {configuration.maxConnections}"
    return Finding("file limit", said, f"raise it to {wanted} (ulimit -Hn, LimitNOFILE=), or lower that")


def _auditLog(path: str) -> Finding:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        if os.access(folder, os.W_OK):
            return Finding("audit log", f"{path} is made at the first start")
        return Finding("audit log", f"{folder} cannot be written to", "let this user write there")
    except OSError as error:
        return Finding("audit log", f"{path}: {error.strerror}", "let this user write there")
    if not os.access(path, os.W_OK) or stat.S_ISDIR(status.st_mode):
        return Finding("audit log", f"{path} cannot be written to", "let this user write there")
    if status.st_mode & 0o077:
        return Finding("audit log", f"others may read {path}", f"chmod 600 {path}")
    return Finding("audit log", path)

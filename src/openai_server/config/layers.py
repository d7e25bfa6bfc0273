# -*- test-case-name: tests.test_config -*-
"""
The layers of settings, and how they merge.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from openai_server.config.configuration import Configuration
from openai_server.config.exposure import isPrivate
from openai_server.config.folders import absolutePath, configPath
from openai_server.config.settings import (
    BY_NAME,
    PREFIX,
    SETTINGS,
    ConfigurationError,
    Setting,
    Value,
    guess,
    shown,
)
from openai_server.config.storage import STORES, VOLATILE, passwordsIn, storeURL, withoutPasswords
from openai_server.config.upstreams import UpstreamSettings

#: What the command line said, by the setting's name: a text, or the texts of
#: an option that was repeated.
Given: TypeAlias = Mapping[str, str | Sequence[str]]

#: What one layer says: the setting's name, its value, and where that stands.
_Layer: TypeAlias = Iterable[tuple[str, Value, str]]

#: A configuration file is a page of text; what is bigger is another file.
_MOST_BYTES: Final = 1 << 20
#: Bytes of the names of tools that go to a worker's process as one argument:
#: from 131,072 up it cannot start, and some room is for names of clients.
TOOLS_ROOM: Final = 32 * 1024


def _isSeen(setting: Setting) -> str:
    return (
        f"{setting.option}: every user of this machine can read it with ps; "
        f"set {setting.variable}, or say it in the file"
    )


@dataclass(frozen=True)
class Loaded:
    """
    The settings that hold, and where they came from.

    @ivar sources: for each field of the configuration, the place of its value.
    @ivar warnings: sentences for the operator; none of them ends the start.
    """

    configuration: Configuration
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """
        Yield one line for each setting: key, value, source. Secrets are masked.
        """
        for setting in SETTINGS:
            value = getattr(self.configuration, setting.name)
            shownValue = withoutPasswords(value) if setting.isURL else value
            text = "********" if setting.isSecret and value else json.dumps(msgspec.to_builtins(shownValue))
            yield f"{setting.name} = {text}  ({self.sources[setting.name]})"


def load(given: Given, environ: Mapping[str, str], path: str | None = None) -> Loaded:
    """
    Merge all layers, key by key.

    @param path: the configuration file that the operator named, which must be
        there; None: the default one, which need not.
    @raise ConfigurationError: for the first thing that is wrong.
    """
    _refuseRelativeHome(environ)
    values: dict[str, Any] = {}
    sources = {setting.name: "default" for setting in SETTINGS}
    warnings = list(_strangers(environ))
    warnings += [_isSeen(BY_NAME[name]) for name, said in given.items() if _hasSecret(BY_NAME[name], said)]
    for layer in (_fromFile(path, environ, warnings), _fromEnvironment(environ), _fromOptions(given)):
        for name, value, source in layer:
            values[name] = _settled(BY_NAME[name], value, environ, source)
            sources[name] = source
    if "store" not in values:
        values["store"] = VOLATILE if values.get("embedded") else _defaultStore(environ, warnings)
    configuration = Configuration(**values)
    _refuseManyTools(configuration, sources)
    _refuseTraces(configuration, sources)
    why = whyKeyNeeded(configuration)
    # Elsewhere there may be some, which is seen when the store is opened.
    if why is not None and configuration.store == "memory:":
        raise ConfigurationError(f"{sources[why.partition(' ')[0]]}: {why}")
    return Loaded(configuration, sources, tuple(warnings))


def _hasSecret(setting: Setting, value: object) -> bool:
    return setting.isSecret or (setting.isURL and bool(passwordsIn(str(value))))


def _settled(setting: Setting, value: Value, environ: Mapping[str, str], source: str) -> Value:
    """
    Return a value as it holds whatever folder the process is in.
    """
    if setting.isURL:
        url = storeURL(str(value), environ)
        if url is None:
            raise ConfigurationError(f"{source}: {setting.name}: the value is not {STORES}")
        return url
    return _absolute(value, environ) if setting.isPath else value


def _defaultStore(environ: Mapping[str, str], warnings: list[str]) -> str:
    """
    Return where things are kept when nobody says anything. (With the embedded
    daemon nothing is: it is for trying things out, beside the real server.)

    @param warnings: added to, when there is no place for that.
    """
    url = storeURL(str(BY_NAME["store"].default), environ)
    if url is None:
        variable = BY_NAME["store"].variable
        warnings.append(f"nothing outlasts a restart: there is no home folder for it (set {variable})")
    return url or VOLATILE


def _absolute(value: Value, environ: Mapping[str, str]) -> Value:
    if isinstance(value, tuple):
        return tuple(
            each.settled(environ) if isinstance(each, UpstreamSettings) else absolutePath(each, environ)
            for each in value
        )
    return absolutePath(str(value), environ) if value else value


def _fromFile(path: str | None, environ: Mapping[str, str], warnings: list[str]) -> _Layer:
    """
    Yield what the file says.

    @param warnings: added to, when other users can read the key in it.
    """
    used = configPath(environ) if path is None else absolutePath(path, environ)
    if used is None:
        return
    content, isShared = _read(used, mustExist=path is not None)
    for key, value in _decode(used, content).items():
        places = list(re.finditer(re.escape(json.dumps(key)).encode() + rb"\s*:", content))
        where = f"{used}{_line(content, places[0].start())}" if places else used
        if len(places) > 1:
            raise ConfigurationError(f"{where}: the key {shown(key)} is there twice")
        if key not in BY_NAME:
            raise ConfigurationError(f"{where}: unknown key {shown(key)}{guess(key)}")
        setting = BY_NAME[key]
        if "file" not in setting.places:
            raise ConfigurationError(f"{where}: {key}: not in the file, only as {setting.variable}")
        if value and isShared and _hasSecret(setting, value):
            warnings.append(f"{used} holds {key} and other users can read it")
        yield key, setting.parse(f"{where}: {key}", value, isText=False), f"file {used}"


def _read(path: str, mustExist: bool) -> tuple[bytes, bool]:
    """
    Return the file's content, and whether others than its owner can read it.
    """
    try:
        # Whoever opens a FIFO waits for its other end.
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise ConfigurationError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            isShared = bool(os.fstat(file.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH))
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not mustExist:
            return b"{}", False
        raise ConfigurationError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _MOST_BYTES:
        raise ConfigurationError(f"{path}: larger than {_MOST_BYTES} bytes")
    return content.removeprefix(b"\xef\xbb\xbf"), isShared


def _decode(path: str, content: bytes) -> Mapping[str, object]:
    try:
        return msgspec.json.decode(content.decode(), type=dict[str, Any])
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}{_line(content, error.start)}: not UTF-8") from None
    except msgspec.ValidationError as error:
        reason = "not a JSON object" if str(error).startswith("Expected `object`") else str(error)
        raise ConfigurationError(f"{path}: {reason}") from None
    except msgspec.DecodeError as error:
        # msgspec says "JSON is malformed: REASON (byte N)", or that the end came too early.
        reason, _, byte = str(error).removeprefix("JSON is malformed: ").rstrip(")").partition(" (byte ")
        line = _line(content, int(byte or len(content)))
        raise ConfigurationError(f"{path}{line}: not JSON: {reason}") from None
    except RecursionError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _line(content: bytes, offset: int) -> str:
    return f" line {content.count(10, 0, offset) + 1}"


def _fromEnvironment(environ: Mapping[str, str]) -> _Layer:
    """
    Yield what the environment says. An empty variable is as good as none, so
    that clearing one can never switch off what the file demands.
    """
    for setting in SETTINGS:
        text = environ.get(setting.variable, "") if "environment" in setting.places else ""
        if text:
            value = setting.parse(setting.variable, text, isText=True)
            yield setting.name, value, f"environment {setting.variable}"


def _fromOptions(given: Given) -> _Layer:
    for name, said in given.items():
        setting = BY_NAME[name]
        value = setting.parse(setting.option, said, isText=isinstance(said, str))
        yield name, value, f"option {setting.option}"


def _strangers(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Yield a warning for each variable that looks like ours and is not. They end
    nothing: Kubernetes makes such ones for any service that is called
    openai-server.
    """
    known = {setting.variable for setting in SETTINGS if "environment" in setting.places}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            yield f"environment variable {shown(name)} is no setting{guess(name)}"


def _refuseRelativeHome(environ: Mapping[str, str]) -> None:
    """
    @raise ConfigurationError: files would be looked for in whatever folder the
        process is in, and a daemon changes it.
    """
    home = environ.get("HOME")
    if home and not os.path.isabs(home):
        raise ConfigurationError(f"environment HOME: {shown(home)} is not an absolute path")


def _refuseManyTools(configuration: Configuration, sources: Mapping[str, str]) -> None:
    """
    @raise ConfigurationError: the worker's process could not start, and nobody
        would be told.
    """
    for name in ("allowedTools", "disallowedTools"):
        if len(" ".join(getattr(configuration, name)).encode()) > TOOLS_ROOM:
            raise ConfigurationError(f"{sources[name]}: {name}: more than {TOOLS_ROOM} bytes together")


def whyKeyNeeded(configuration: Configuration) -> str | None:
    """
    Return what is wrong if there are no keys beside that of the settings,
    beginning with the name of a setting; None where nothing is.
    """
    if configuration.apiKey:
        return None
    name = "listen" if configuration.listen else "host"
    for description in configuration.descriptions:
        if not (configuration.insecureNoAuth or isPrivate(description)):
            address = description if configuration.listen else configuration.host
            return (
                f"{name} {shown(address)}: others may reach this address and no API key"
                f" is set (set {BY_NAME['apiKey'].variable}, or say {BY_NAME['insecureNoAuth'].option})"
            )
    if "*" in configuration.corsOrigins:
        return 'corsOrigins "*": only with an API key'
    return None


def _refuseTraces(configuration: Configuration, sources: Mapping[str, str]) -> None:
    """
    @raise ConfigurationError: no spans can be sent there, or it holds a secret,
        which settings that are shown must not.
    """
    said = configuration.traces
    if said is not None and said != "otlp" and not re.fullmatch(r"https?://[^@/?#]+(/[^@?#]*)?", said):
        raise ConfigurationError(
            f"{sources['traces']}: traces: the value is neither otlp nor an http or https URL without a user,"
            " a query and a fragment (what a collector wants to be told goes into OTEL_EXPORTER_OTLP_HEADERS)"
        )

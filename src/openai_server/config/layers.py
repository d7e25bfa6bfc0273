# -*- test-case-name: tests.test_config -*-
"""
The layers of settings, and how they merge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from openai_server.config.configuration import Configuration
from openai_server.config.document import readFile
from openai_server.config.exposure import isPrivate
from openai_server.config.folders import absolutePath, configPath
from openai_server.config.kinds import Value
from openai_server.config.reading import ConfigurationError, guess, parsed, shown
from openai_server.config.settings import BY_NAME, DEFAULTS, PREFIX, SETTINGS

#: What the command line said, by the setting's name: a text, or the texts of
#: an option that was repeated.
Given: TypeAlias = Mapping[str, str | Sequence[str]]

#: What one layer says: the setting's name, its value, and where that stands.
_Layer: TypeAlias = Iterable[tuple[str, Value, str]]

_PATHS = ("keyFile", "registryFile", "thrumSocket")


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
        One line for each setting: key, value, source. Secrets are masked.
        """
        for setting in SETTINGS:
            value = getattr(self.configuration, setting.name)
            text = "********" if setting.isSecret and value else json.dumps(value)
            yield f"{setting.name} = {text}  ({self.sources[setting.name]})"


def load(given: Given, environ: Mapping[str, str], path: str | None = None) -> Loaded:
    """
    Merge all layers, key by key.

    @param path: the configuration file that the operator named, which must be
        there; None: the default one, which need not.
    @raise ConfigurationError: for the first thing that is wrong.
    """
    values: dict[str, Any] = {}
    sources = {setting.name: "default" for setting in SETTINGS}
    warnings = list(_strangers(environ))
    for layer in (_fromFile(path, environ, warnings), _fromEnvironment(environ), _fromOptions(given)):
        for name, value, source in layer:
            values[name] = value
            sources[name] = source
    for name in _PATHS:
        if values.get(name):
            values[name] = absolutePath(values[name], environ)
    configuration = replace(DEFAULTS, **values)
    _refuseExposure(configuration, sources)
    _refuseOpenOrigins(configuration, sources)
    return Loaded(configuration, sources, tuple(warnings))


def _fromFile(path: str | None, environ: Mapping[str, str], warnings: list[str]) -> _Layer:
    """
    What the file says.

    @param warnings: added to, when other users can read the key in it.
    """
    used = configPath(environ) if path is None else absolutePath(path, environ)
    if used is None:
        return
    document = readFile(used, mustExist=path is not None)
    for name, value in document.values():
        if BY_NAME[name].isSecret and value and document.isShared:
            warnings.append(f"{used} holds {name} and other users can read it")
        yield name, value, f"file {used}"


def _fromEnvironment(environ: Mapping[str, str]) -> _Layer:
    """
    What the environment says. An empty variable is as good as none, so that
    clearing one can never switch off what the file demands.
    """
    for setting in SETTINGS:
        text = environ.get(setting.variable, "") if "environment" in setting.places else ""
        if text:
            value = parsed(setting.variable, setting, text, isText=True)
            yield setting.name, value, f"environment {setting.variable}"


def _fromOptions(given: Given) -> _Layer:
    for name, said in given.items():
        setting = BY_NAME[name]
        value = parsed(setting.option, setting, said, isText=isinstance(said, str))
        yield name, value, f"option {setting.option}"


def _strangers(environ: Mapping[str, str]) -> Iterator[str]:
    """
    Variables that look like ours and are not. They end nothing: Kubernetes
    makes such ones for any service that is called openai-server.
    """
    known = {setting.variable for setting in SETTINGS}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            yield f"environment variable {shown(name)} is no setting{guess(name)}"


def _refuseExposure(configuration: Configuration, sources: Mapping[str, str]) -> None:
    """
    @raise ConfigurationError: others could reach the server, and nobody asks
        them for a key.
    """
    if configuration.apiKey or configuration.insecureNoAuth:
        return
    name = "listen" if configuration.listen else "host"
    for description in configuration.descriptions:
        if not isPrivate(description):
            address = description if configuration.listen else configuration.host
            raise ConfigurationError(
                f"{sources[name]}: {name} {shown(address)}: others may reach this address and no API key"
                f" is set (set {BY_NAME['apiKey'].variable}, or say {BY_NAME['insecureNoAuth'].option})"
            )


def _refuseOpenOrigins(configuration: Configuration, sources: Mapping[str, str]) -> None:
    """
    @raise ConfigurationError: the pages of the whole web could prompt the
        workers, and nobody asks them for a key.
    """
    if "*" in configuration.corsOrigins and not configuration.apiKey:
        raise ConfigurationError(f'{sources["corsOrigins"]}: corsOrigins "*": only with an API key')

# -*- test-case-name: tests.test_tap -*-
"""
C{twistd openai-server}: the command line, and the service that it makes.

In an application of one's own::

    options = Options()
    options.parseOptions(["--embedded"])
    makeService(options).setServiceParent(application)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python import usage

from openai_server import __version__
from openai_server.clock import MonotonicClock
from openai_server.config import (
    SETTINGS,
    Configuration,
    ConfigurationError,
    Loaded,
    Setting,
    absolutePath,
    load,
    passwordsIn,
)
from openai_server.config.settings import BY_NAME
from openai_server.inheritance import inheritanceFrom
from openai_server.joining import Joining
from openai_server.log import JSONLog, Loop
from openai_server.logoutput import outputOf
from openai_server.ports import endpointFrom
from openai_server.processes import OWN_CUT, OWN_DRAIN, Processes, checkProcesses
from openai_server.program import ProgramService, endInFailure, explainExit, keepForGood, pidFileProblem
from openai_server.service import Compose, OpenAIService
from openai_server.spawning import Spawner, commandFor
from openai_server.supervision import supervisorFrom

_log = Logger()


class Options(usage.Options):
    """
    The command line. An option for each setting that has one, which are
    L{said <given>} and not yet judged; L{postOptions} merges all layers.

    @ivar given: what was said, by the setting's name.
    @ivar environ: the environment that counts.
    @ivar loaded: the settings that hold, once the options are parsed.
    """

    longdesc = (
        "OpenAI's HTTP API in front of humd. Settings come from these options, from the"
        " environment (OPENAI_SERVER_PORT and so on) and from"
        " ~/.config/hum/hives/openai-server.json, in this order."
    )

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}
        self.loaded: Loaded
        self.environ = environ
        self._path: str | None = None
        self._isToPrint = False

    def opt_config(self, path: str) -> None:
        """
        The configuration file to read in place of the default one.
        """
        self._path = path

    def opt_print_config(self) -> None:
        """
        Print each setting with where it comes from, secrets masked, and exit.
        """
        self._isToPrint = True

    def opt_version(self) -> None:
        """
        Print the version and exit.
        """
        print(f"openai-server {__version__}")
        raise SystemExit(0)

    def load(self) -> Loaded:
        """
        Return the settings as the file says them now.

        @raise ConfigurationError: they cannot be used.
        """
        return load(self.given, self.environ, self._path)

    def postOptions(self) -> None:
        """
        Merge all layers.

        @raise usage.UsageError: they cannot be used. Under C{twistd}, which
            answers that with all its options, it is C{SystemExit} instead, and
            the reason stands alone.
        """
        if self._path is not None:
            # A daemon leaves its folder, and may be told to read it again.
            self._path = absolutePath(self._path, self.environ)
        try:
            self.loaded = self.load()
            self._checkPlace()
            if problem := pidFileProblem(self.parent or {}):
                raise ConfigurationError(problem)
        except ConfigurationError as error:
            if self.parent is not None:
                raise SystemExit(f"openai-server: {error}") from None
            raise usage.UsageError(str(error)) from None
        if self._isToPrint:
            print("\n".join(self.loaded.lines()))
            raise SystemExit(0)

    @property
    def arguments(self) -> Sequence[str]:
        """
        The command line that says the same.
        """
        said = [] if self._path is None else ["--config", self._path]
        for name, given in self.given.items():
            option = BY_NAME[name].option
            if BY_NAME[name].isFlag:
                said.append(option)
            else:
                for text in given if isinstance(given, list) else [given]:
                    said += [option, text]
        return said

    def _checkPlace(self) -> None:
        """
        @raise ConfigurationError: the ports cannot be opened so, or not here.
        """
        checkProcesses(self.loaded)
        configuration = self.loaded.configuration
        inheritance = inheritanceFrom(self.environ)
        if inheritance is None:
            _checkDescriptions(self.loaded)
        elif inheritance.descriptions != configuration.descriptions:
            raise ConfigurationError(
                "the addresses to listen on are others than those of the processes beside this one:"
                " restart all of them"
            )
        if configuration.processes > 1 and self.parent is None:
            raise ConfigurationError(
                f"{self.loaded.sources['processes']}: processes {configuration.processes}: only twistd"
                " starts several, an application of one's own has one"
            )


def _checkDescriptions(loaded: Loaded) -> None:
    """
    @raise ConfigurationError: Twisted does not understand an endpoint string.
    """
    from twisted.internet import reactor

    name = "listen" if loaded.configuration.listen else "host"
    described = [(description, name) for description in loaded.configuration.descriptions]
    metrics = loaded.configuration.metricsDescription()
    if metrics is not None:
        described.append((metrics, "metrics"))
    for description, setting in described:
        try:
            endpointFrom(reactor, description)
        except Exception as error:
            # Each kind of endpoint has its own way to fail: a parser's ValueError, a missing certificate.
            source = loaded.sources[setting]
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConfigurationError(f"{source}: cannot listen on {description}: {reason}") from None


def _optionFor(setting: Setting) -> Callable[..., None]:
    """
    The method by which L{usage.Options} learns of a setting's option.
    """

    def said(self: Options, text: str) -> None:
        self.given[setting.name] = text

    def saidAgain(self: Options, text: str) -> None:
        self.given.setdefault(setting.name, []).append(text)

    def flagged(self: Options) -> None:
        self.given[setting.name] = "true"

    method: Callable[..., None] = flagged if setting.isFlag else saidAgain if setting.isList else said
    method.__doc__ = setting.what
    return method


for _setting in SETTINGS:
    if "option" in _setting.places:
        setattr(Options, "opt_" + _setting.option[2:].replace("-", "_"), _optionFor(_setting))


def makeService(options: Options) -> OpenAIService:
    """
    The whole server as a service. Nothing is opened before it starts.

    Its start raises L{StartError<openai_server.service.StartError>} when it
    cannot: a port is taken, a key file cannot be used. In an application of
    one's own that goes to whoever starts the application; C{twistd} ends with
    a traceback whose last line says why.

    Run by C{twistd} as its plugin, it takes care of the process too: log lines
    are JSON, a second signal ends the drain, a start that fails is one line.
    """
    from twisted.internet import reactor

    configuration = options.loaded.configuration
    clock = MonotonicClock(reactor)
    joining = Joining(reactor, clock, options.loaded, options.environ)
    descriptions: Sequence[str] = configuration.descriptions
    compose: Compose = joining.join
    drainTimeout = configuration.drainTimeout
    if options.parent is None:
        return OpenAIService(reactor, clock, descriptions, drainTimeout, compose, joining.beside)
    sys.excepthook = explainExit(sys.excepthook)
    inheritance = inheritanceFrom(options.environ)
    if configuration.processes > 1 and inheritance is None:
        return _manyProcesses(options, options.parent, clock)
    if inheritance is not None:
        descriptions = inheritance.inheritedDescriptions
        compose = inheritance.composing(reactor, compose)
    program = ProgramService(reactor, clock, descriptions, drainTimeout, compose, joining.beside)
    program.supervisor = supervisorFrom(options.environ, clock, os.getpid())
    joining.onBroughtBack = keepForGood
    log = program.observer = _observerFor(options.parent, configuration)
    program.reopens = [joining.reopen] if log is None else [joining.reopen, log.reopen]
    program.reloads = [partial(_reload, options, joining, log)]
    return program


def _manyProcesses(options: Options, twistd: Mapping[str, Any], clock: IReactorTime) -> ProgramService:
    """
    Return the service of the process that starts those which serve.
    """
    from twisted.internet import reactor

    configuration = options.loaded.configuration
    log = _observerFor(twistd, configuration)
    spawner = Spawner(
        reactor,
        commandFor(options.arguments, twistd, options.environ),
        (lambda lines: None) if log is None else log.forward,
    )
    processes = Processes(
        reactor,
        clock,
        configuration.processes,
        spawner,
        supervisorFrom(options.environ, clock, os.getpid()),
        partial(endInFailure, reactor),
    )
    drainTimeout = configuration.drainTimeout + OWN_DRAIN
    program = ProgramService(reactor, clock, configuration.descriptions, drainTimeout, processes.compose)
    program.cutTimeout = program.hurriedTimeout = OWN_CUT
    program.observer = log
    program.reopens = [] if log is None else [log.reopen]
    program.reloads = [processes.hangUp]
    return program


def _reload(options: Options, joining: Joining, log: JSONLog | None) -> None:
    """
    Read the settings again; what is wrong with them is logged and ends nothing.
    """
    try:
        settings = options.load().configuration
    except ConfigurationError as error:
        _log.warn("the settings stay as they were: {error}", error=str(error))
        return
    if log is not None:
        log.hide(settings.apiKey or "")
    joining.reload(settings)
    if log is not None:
        log.least = LogLevel.levelWithName(settings.logLevel)


def _observerFor(twistd: Mapping[str, Any], configuration: Configuration) -> JSONLog | None:
    """
    What writes the process's log: to the file that C{twistd} would write to.
    None where C{twistd} has something else to do: it was told to use syslog,
    or has to refuse to be a daemon that writes to the standard output.

    @param twistd: the options of C{twistd} itself.
    """
    path = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if twistd.get("syslog") or (path == "-" and not twistd.get("nodaemon")):
        return None
    secrets = [*filter(None, [configuration.apiKey]), *passwordsIn(configuration.store)]
    from twisted.internet import reactor

    output = outputOf(None if path == "-" else path, configuration.logFileSize, configuration.logFiles)
    log = JSONLog(output, secrets, cast("Loop", reactor))
    log.least = LogLevel.levelWithName(configuration.logLevel)
    return log

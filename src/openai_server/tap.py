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
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from twisted.logger import Logger
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
from openai_server.joining import Joining
from openai_server.log import JSONLog, Loop
from openai_server.logoutput import outputOf
from openai_server.ports import endpointFrom
from openai_server.program import ProgramService, explainExit
from openai_server.service import OpenAIService
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
            _checkDescriptions(self.loaded)
        except ConfigurationError as error:
            if self.parent is not None:
                raise SystemExit(f"openai-server: {error}") from None
            raise usage.UsageError(str(error)) from None
        if self._isToPrint:
            print("\n".join(self.loaded.lines()))
            raise SystemExit(0)


def _checkDescriptions(loaded: Loaded) -> None:
    """
    @raise ConfigurationError: Twisted does not understand an endpoint string.
    """
    from twisted.internet import reactor

    for description in loaded.configuration.descriptions:
        try:
            endpointFrom(reactor, description)
        except Exception as error:
            # Each kind of endpoint has its own way to fail: a parser's ValueError, a missing certificate.
            source = loaded.sources["listen" if loaded.configuration.listen else "host"]
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
    terms = (reactor, clock, configuration.descriptions, configuration.drainTimeout, joining.join)
    if options.parent is None:
        return OpenAIService(*terms)
    program = ProgramService(*terms)
    program.supervisor = supervisorFrom(options.environ, clock, os.getpid())
    log = program.observer = _observerFor(options.parent, configuration)
    program.reloads = [*([log.reopen] if log else []), partial(_reload, options, joining, log)]
    sys.excepthook = explainExit(sys.excepthook)
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
    if log is not None and settings.apiKey is not None:
        log.hide(settings.apiKey)
    joining.reload(settings)


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
    return JSONLog(output, secrets, cast("Loop", reactor))

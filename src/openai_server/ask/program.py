# -*- test-case-name: tests.ask.test_program -*-
"""
The command line and the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.python import usage

from openai_server.ask import CANCELLED
from openai_server.ask.client import Client
from openai_server.ask.events import AskError

DEFAULT_URL: Final = "http://127.0.0.1:14620"


def oneLine(text: str) -> str:
    """
    The text without line breaks and without what a terminal would obey.
    """
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _url(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{given!r} is not the address of a server, like {DEFAULT_URL}")
    return given


def _seconds(given: str) -> float:
    seconds = float(given)
    if not 0 < seconds < 10**7:
        raise ValueError("seconds must be above 0")
    return seconds


class Options(usage.Options):
    """
    The command line.
    """

    synopsis = 'python -m openai_server.ask [options] "question" (- reads it from standard input)'
    longdesc = (
        "Streams the answer of a server to the terminal. Ctrl-C closes the connection and cancels the turn."
    )
    optParameters = [
        ["url", "u", DEFAULT_URL, "Address of the server.", _url],
        ["model", "m", None, "Model to ask; without it, the first that the server lists."],
        ["key", "k", None, "API key; better in OPENAI_SERVER_API_KEY or OPENAI_API_KEY."],
        ["timeout", "t", 600.0, "Seconds to wait while nothing arrives.", _seconds],
    ]
    optFlags = [["models", "l", "List the models and end."]]

    def parseArgs(self, *words: str) -> None:
        """
        The words of the question.
        """
        self.text = " ".join(words)

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is nothing to do.
        """
        if not self["models"] and not self.text:
            raise usage.UsageError("there is no question")

    def key(self, environment: dict[str, str]) -> str | None:
        """
        The API key to use, or None; an empty one is none.
        """
        given = self["key"]
        found = (given, environment.get("OPENAI_SERVER_API_KEY"), environment.get("OPENAI_API_KEY"))
        return next((key.strip() for key in found if key and key.strip()), None)


class Terminal:
    """
    Where the answer and the complaints go.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._last = "\n"

    def write(self, text: str) -> None:
        """
        Show a piece of the answer at once.
        """
        self._last = text[-1]
        self._out.write(text)
        self._out.flush()

    def endLine(self) -> None:
        """
        Let what comes next begin on a line of its own.
        """
        if self._last != "\n":
            self.write("\n")

    def complain(self, text: str) -> None:
        """
        Say on one line of standard error what went wrong.
        """
        self._err.write(f"ask: {oneLine(text)}\n")
        self._err.flush()


async def converse(client: Client, options: Options, terminal: Terminal) -> None:
    """
    Do what the command line says.

    @raise AskError: it could not be done.
    """
    if options["models"]:
        for model in await client.models():
            terminal.write(f"{model}\n")
        return
    model = options["model"]
    if model is None:
        listed = await client.models()
        if not listed:
            raise AskError("the server lists no models; name one with --model")
        model = listed[0]
    try:
        reason = await client.ask(model, options.text, terminal.write)
    finally:
        terminal.endLine()
    if reason not in (None, "stop"):
        terminal.complain(f"the answer ended early: {reason}")


async def run(reactor: Any, client: Client, options: Options, terminal: Terminal) -> None:
    """
    L{converse}, given up when the reactor is told to stop.

    @raise SystemExit: with the exit code, unless all went well.
    """
    isCancelled = False
    work = Deferred.fromCoroutine(converse(client, options, terminal))

    def cancel() -> None:
        nonlocal isCancelled
        isCancelled = True
        work.cancel()

    reactor.addSystemEventTrigger("before", "shutdown", cancel)
    try:
        await work
    except BrokenPipeError:
        # Who read our output went away; nothing must be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as reason:
        if isCancelled:
            raise SystemExit(CANCELLED) from None
        if not isinstance(reason, AskError):
            raise
        terminal.complain(str(reason))
        raise SystemExit(1) from None


def optionsFrom(argv: Sequence[str], read: Callable[[], str]) -> Options:
    """
    The parsed command line, the question read where it says C{-}.

    @raise usage.UsageError: it is wrong.
    """
    options = Options()
    options.parseOptions(list(argv))
    if options.text == "-":
        options.text = read()
        if not options.text.strip():
            raise usage.UsageError("there is no question on standard input")
    return options

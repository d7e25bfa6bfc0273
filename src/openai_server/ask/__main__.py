# -*- test-case-name: tests.ask.test_program -*-
"""
C{python -m openai_server.ask}: see L{openai_server.ask}.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from openai_server.ask import CANCELLED


def main() -> NoReturn:
    """
    The program. Ctrl-C ends it well from the first moment on; once the reactor
    runs, that has its own way of taking it.
    """
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(CANCELLED)


def _run() -> NoReturn:
    # Importing takes long enough to be interrupted.
    from treq.client import HTTPClient
    from twisted.internet import task
    from twisted.internet.defer import Deferred
    from twisted.python import usage
    from twisted.web.client import Agent

    from openai_server.ask.client import Client
    from openai_server.ask.program import Terminal, oneLine, optionsFrom, run

    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        options = optionsFrom(sys.argv[1:], sys.stdin.read)
    except usage.UsageError as reason:
        print(f"ask: {oneLine(str(reason))}; see --help", file=sys.stderr)
        sys.exit(2)

    def start(reactor: Any) -> Deferred[None]:
        http = HTTPClient(Agent(reactor, connectTimeout=10))
        client = Client(http, reactor, options["url"], options.key(dict(os.environ)), options["timeout"])
        return Deferred.fromCoroutine(run(reactor, client, options, Terminal(sys.stdout, sys.stderr)))

    task.react(start)


if __name__ == "__main__":
    main()

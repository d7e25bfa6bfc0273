# -*- test-case-name: tests.admin.test_program -*-
"""
The command line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

import msgspec
from twisted.python import usage

from openai_server.admin.doctor import findings
from openai_server.admin.findings import Finding
from openai_server.admin.installing import (
    InstallError,
    ServiceKind,
    install,
    installationFor,
    removalFor,
    uninstall,
)
from openai_server.admin.keys import KeyOptions, keyLines
from openai_server.admin.times import timeFrom
from openai_server.admin.usage import UsageOptions, usageLines
from openai_server.config import Configuration, ConfigurationError, Loaded, load
from openai_server.store.administration import Administration, Summary
from openai_server.store.interfaces import StoreError

#: What Twisted puts in front of a reason.
_TWISTEDS: Final = "Parameter type enforcement failed: "


class Nothing(usage.Options):
    """
    A command without options.
    """


class Forgetting(usage.Options):
    """
    What is to be forgotten.
    """

    optParameters = [
        ["session", "s", None, "sid of a session, which goes with its parked calls"],
        ["response", "r", None, "id of a response, conversation or chat"],
        ["before", "b", None, "all that was not used since this day or moment, in UTC", timeFrom],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: not one thing was said.
        """
        if len([value for value in self.values() if value is not None]) != 1:
            raise usage.UsageError("forget what? one of --session, --response, --before")


class Installing(usage.Options):
    """
    What kind of service the server becomes.
    """

    optFlags = [
        ["system", None, "a service of the machine, not of this user"],
        ["socket", None, "let systemd listen, and start the server at the first connection"],
        ["no-start", None, "write the files only"],
    ]
    optParameters = [["user", "u", None, "with --system: as whom it runs; default: who called sudo"]]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: nobody is said for whom it runs.
        """
        if self["system"]:
            self["user"] = self["user"] or os.environ.get("SUDO_USER")
            if self["user"] is None:
                raise usage.UsageError("--system needs --user NAME: the one whose humd it serves")
        elif self["user"] is not None:
            raise usage.UsageError("--user goes with --system")


class Uninstalling(usage.Options):
    """
    Which service goes.
    """

    optFlags = [["system", None, "that of the machine, not of this user"]]


class AdminOptions(usage.Options):
    """
    The command line.
    """

    synopsis = "python -m openai_server.admin [options] COMMAND"
    longdesc = (
        "Makes keys of openai-server, looks into its store, and makes a service of it. Settings come from"
        " where the server has them."
    )
    optParameters = [
        ["config", "c", None, "The configuration file to read in place of the default one."],
        ["store", None, None, "The store, in place of the one that the settings name."],
    ]
    subCommands = [
        ["keys", None, KeyOptions, "make, show and change keys"],
        ["state", None, Nothing, "show what is in the store"],
        ["forget", None, Forgetting, "forget a session, a response, or what is old"],
        ["vacuum", None, Nothing, "give back the room of what was forgotten"],
        ["export", None, Nothing, "write all but secrets as lines of JSON"],
        ["usage", None, UsageOptions, "show what turns have cost"],
        ["doctor", None, Nothing, "say what is wrong with all that the server needs"],
        ["install", None, Installing, "run the server by systemd or launchd, now and from now on"],
        ["uninstall", None, Uninstalling, "undo that"],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is nothing to do.
        """
        if self.subCommand is None:
            raise usage.UsageError("no command; see --help")


def run(arguments: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO, now: float) -> int:
    """
    Do what the command line says.

    @param now: in seconds since 1970.
    @return: the exit code: 1 where it cannot be done, 2 where it was not
        understood.
    """
    options = AdminOptions()
    try:
        options.parseOptions(list(arguments))
        given = {"store": options["store"]} if options["store"] else {}
        loaded = load(given, environ, options["config"])
    except ConfigurationError as error:
        if options.subCommand == "doctor":
            print(Finding("settings", str(error), "change that").line, file=out)
            return 1
        print(f"admin: {error}", file=err)
        return 2
    except (usage.UsageError, ValueError) as error:
        print(f"admin: {str(error).removeprefix(_TWISTEDS)}", file=err)
        return 2
    if options.subCommand == "doctor":
        return _examine(loaded, environ, out, now)
    configuration = loaded.configuration
    if options.subCommand in ("install", "uninstall"):
        return _settle(options, configuration, environ, out, err)
    url = configuration.store
    if url == "memory:":
        print(f"admin: {_noStore(options.subCommand)}", file=err)
        return 1
    try:
        # Keys may be made before the first server is started.
        store = Administration(url, creates=options.subCommand == "keys")
        try:
            for line in _linesOf(options, store, now):
                print(line, file=out)
        finally:
            store.close()
    except StoreError as error:
        print(f"admin: {error}", file=err)
        return 1
    return 0


def _noStore(command: str | None) -> str:
    if command == "keys":
        return "keys need a store that lasts, and the setting store says memory: set it to sqlite:"
    return "the store is memory: only the server itself sees what is in it"


def _settle(
    options: Any, configuration: Configuration, environ: Mapping[str, str], out: TextIO, err: TextIO
) -> int:
    said, isInstall = options.subOptions, options.subCommand == "install"
    try:
        if isInstall:
            wanted = ServiceKind(bool(said["system"]), bool(said["socket"]), said["user"], options["config"])
            done = install(installationFor(wanted, configuration, environ), not said["no-start"])
        else:
            done = uninstall(removalFor(bool(said["system"]), environ))
        for line in done:
            print(line, file=out)
    except InstallError as error:
        print(f"admin: {error}", file=err)
        return 1
    if isInstall:
        undo = f"uninstall{' --system' if said['system'] else ''}"
        print(f"to undo it: python -m openai_server.admin {undo}", file=out)
    return 0


def _examine(loaded: Loaded, environ: Mapping[str, str], out: TextIO, now: float) -> int:
    isWrong = False
    for finding in findings(loaded, environ, now):
        isWrong |= finding.remedy is not None
        print(finding.line, file=out)
    return int(isWrong)


def _linesOf(options: Any, store: Administration, now: float) -> Iterator[str]:
    match options.subCommand:
        case "keys":
            yield from keyLines(options.subOptions, store, now)
        case "state":
            yield from _stateLines(store.where, store.summary(now))
        case "forget":
            yield f"{_forget(store, options.subOptions)} rows are gone"
        case "vacuum":
            store.vacuum()
        case "usage":
            yield from usageLines(store, options.subOptions, now)
        case _:
            for row in store.export():
                yield msgspec.json.encode(row).decode()


def _forget(store: Administration, said: Mapping[str, Any]) -> int:
    if said["session"] is not None:
        return store.forgetSession(said["session"])
    if said["response"] is not None:
        return store.forgetRecord(said["response"])
    return store.forgetBefore(said["before"])


def _stateLines(where: str, summary: Summary) -> Iterator[str]:
    yield f"store: {where}, {summary.size:,} bytes"
    yield f"sessions: {summary.sessions:,}; hints: {summary.hints:,}"
    yield f"idempotency keys: {summary.answers:,}; leases: {summary.leases:,}"
    for kind, (count, size) in summary.records.items():
        yield f"kept under {kind}_...: {count:,}, {size:,} bytes"
    yield f"parked calls: {len(summary.calls):,}"
    for call in summary.calls:
        left = f"ends in {call.left:.0f} s" if call.left > 0 else f"should have ended {-call.left:.0f} s ago"
        whose = f"session {call.sid}, account {call.account}"
        yield f"  {call.id} {call.name}, {whose}: {call.age:.0f} s old, {left}"

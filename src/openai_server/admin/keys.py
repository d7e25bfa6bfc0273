# -*- test-case-name: tests.admin.test_keys -*-
"""
The commands that make, show and change keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from twisted.python import usage

from openai_server.accounts.keys import digestOf, isAccountName, isName, newKey, shownOf
from openai_server.accounts.meter import periodsAt
from openai_server.admin.times import timeFrom, timeShown
from openai_server.store.administration import Administration
from openai_server.store.keyadministration import LIMITS, KeyAdministration
from openai_server.store.savedkeys import SavedKey

#: What takes a limit away.
_NONE: Final = "none"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_GRACE: Final = "24h"
#: What a count can be: every database takes it.
_MOST: Final = 2**53


def _count(said: str) -> int:
    if not (said.isascii() and said.isdigit() and 0 < int(said[:20]) <= _MOST):
        raise ValueError(f"{said!r} is no whole number above 0")
    return int(said)


def _models(said: str) -> str:
    models = [model.strip() for model in said.split(",")]
    if not all(models):
        raise ValueError(f"{said!r} is no list of models with commas between them")
    return ",".join(dict.fromkeys(models))


def _seconds(said: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", said)
    if found is None:
        raise ValueError(f"{said!r} is no duration, as 90s, 10m, 24h and 7d are")
    return float(found[1]) * _UNITS[found[2]]


def _orNone(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    # What was not said is None; what is to be taken away is told from it.
    return lambda said: _NONE if said == _NONE else convert(said)


def _fieldOf(option: str) -> str:
    return re.sub("-(.)", lambda found: found[1].upper(), option)


#: What a key may and may not, and how that is read.
_TERMS: Final = (
    ("models", "the models that it may ask for, with commas between them", _models),
    ("rpm", "requests that its account may make in any minute", _count),
    ("tpm", "tokens that its account may use in any minute", _count),
    ("concurrent", "requests that its account may make at a time", _count),
    ("tokens-per-day", "tokens that its account may use in a day, in UTC", _count),
    ("tokens-per-month", "tokens that its account may use in a month, in UTC", _count),
    ("expires", "the day or moment, in UTC, from which on it is good no longer", timeFrom),
)
_FIELDS: Final = {option: "expiresAt" if option == "expires" else _fieldOf(option) for option, _, _ in _TERMS}


class OneKey(usage.Options):
    """
    A command for one key.
    """

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Take the name where people write it: in front of the options, too.
        """
        said = list(options or ())
        if said and not said[0].startswith("-"):
            said.append(said.pop(0))
        super().parseOptions(said)

    def parseArgs(self, *names: str) -> None:
        """
        Take the name.
        """
        if len(names) != 1:
            raise usage.UsageError("which key? say one NAME")
        name = names[0]
        if not isName(name):
            raise usage.UsageError(f"{name!r} is no name: letters, digits and . _ @ + - make one, up to 64")
        self["name"] = name

    def getSynopsis(self) -> str:
        """
        Return how it is called.
        """
        return f"{super().getSynopsis()} NAME"


class Adding(OneKey):
    """
    What a new key may.
    """

    optFlags = [["admin", None, "let it see what all accounts have used"]]
    optParameters = [
        ["account", None, None, "whose it is; the name, if this is not said"],
        *[[option, None, None, what, convert] for option, what, convert in _TERMS],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: no account can be called that.
        """
        account = self["account"] or self["name"]
        if not isAccountName(account):
            raise usage.UsageError(f"no account can be called {account!r}")
        self["account"] = account


class Changing(OneKey):
    """
    What a key may from now on.
    """

    optFlags = [
        ["admin", None, "let it see what all accounts have used"],
        ["no-admin", None, "let it see that no more"],
    ]
    optParameters = [
        [option, None, None, f"{what}; none: no such limit", _orNone(convert)]
        for option, what, convert in _TERMS
    ]

    @property
    def changes(self) -> dict[str, Any]:
        """
        The new values by the names of fields.
        """
        changes = {
            field: None if self[option] == _NONE else self[option]
            for option, field in _FIELDS.items()
            if self[option] is not None
        }
        if self["admin"] or self["no-admin"]:
            changes["isAdmin"] = bool(self["admin"])
        return changes

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: nothing is to be changed, or two things at once.
        """
        if self["admin"] and self["no-admin"]:
            raise usage.UsageError("--admin or --no-admin?")
        if not self.changes:
            raise usage.UsageError("nothing is to be changed; see --help")


class Disabling(OneKey):
    """
    Whether a key is let in.
    """

    optFlags = [["undo", None, "let it in again"]]


class Rotating(OneKey):
    """
    For how long the old key stays good.
    """

    optParameters = [["grace", None, _GRACE, "for how long the old one stays good, as 10m or 7d", _seconds]]

    def postOptions(self) -> None:
        """
        Read the default as well.
        """
        if self["grace"] == _GRACE:
            self["grace"] = _seconds(_GRACE)


class Listing(usage.Options):
    """
    All keys.
    """


class KeyOptions(usage.Options):
    """
    The commands for keys.
    """

    subCommands = [
        ["add", None, Adding, "make a key, and print it: it is shown only then"],
        ["list", None, Listing, "show all keys, and what their accounts have used"],
        ["set", None, Changing, "change what a key may"],
        ["disable", None, Disabling, "let a key in no longer"],
        ["rotate", None, Rotating, "make a new key in the place of one, and print it"],
        ["remove", None, OneKey, "forget a key"],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is nothing to do.
        """
        if self.subCommand is None:
            raise usage.UsageError("keys: add, list, set, disable, rotate or remove?")


def keyLines(options: Any, database: Administration, now: float) -> Iterator[str]:
    """
    Do what the command line says.

    @param now: in seconds since 1970.
    @return: what it prints.
    @raise openai_server.store.interfaces.StoreError: it cannot be done.
    """
    keys, said = KeyAdministration(database, now), options.subOptions
    match options.subCommand:
        case "add":
            yield _add(keys, said, now)
        case "list":
            yield from _listed(keys, now)
        case "set":
            keys.set(said["name"], said.changes)
        case "disable":
            keys.set(said["name"], {"isDisabled": not said["undo"]})
        case "rotate":
            key = newKey()
            keys.rotate(said["name"], digestOf(key.encode()), shownOf(key), said["grace"])
            yield key
        case _:
            keys.remove(said["name"])


def _add(keys: KeyAdministration, said: Mapping[str, Any], now: float) -> str:
    key = newKey()
    keys.add(
        SavedKey(
            digest=digestOf(key.encode()),
            name=said["name"],
            shown=shownOf(key),
            account=said["account"],
            isAdmin=bool(said["admin"]),
            createdAt=now,
            **{field: said[option] for option, field in _FIELDS.items()},
        )
    )
    return key


def _listed(keys: KeyAdministration, now: float) -> Iterator[str]:
    used = [keys.used(period) for period in periodsAt(now)]
    rows = [
        ("NAME", "ACCOUNT", "KEY", "STATE", "MODELS", "LIMITS"),
        *[_row(key, now, *[each.get(key.account, 0) for each in used]) for key in keys.list()],
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]).rstrip()


def _row(key: SavedKey, now: float, today: int, month: int) -> tuple[str, ...]:
    return (
        key.name,
        key.account,
        f"{key.shown}...",
        ", ".join(_states(key, now)),
        key.models or "all",
        _limits(key, today, month),
    )


def _states(key: SavedKey, now: float) -> Iterator[str]:
    if key.isDisabled:
        yield "disabled"
    elif key.expiresAt is not None and key.expiresAt <= now:
        yield "expired"
    elif key.replacedUntil is not None:
        yield f"replaced, good until {timeShown(key.replacedUntil)}"
    elif key.expiresAt is not None:
        yield f"good until {timeShown(key.expiresAt)}"
    else:
        yield "good"
    if key.isAdmin:
        yield "admin"


def _limits(key: SavedKey, today: int, month: int) -> str:
    used = {"tokensPerDay": today, "tokensPerMonth": month}
    names = {field: option for option, field in _FIELDS.items()}
    said = [
        f"{names[field]} {limit:,}" + (f" ({used[field]:,} used)" if field in used else "")
        for field in LIMITS
        if (limit := getattr(key, field)) is not None
    ]
    return ", ".join(said) or "none"

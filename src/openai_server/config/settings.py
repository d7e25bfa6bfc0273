# -*- test-case-name: tests.test_config -*-
"""
The settings one by one: what each is called, takes and means. All of it is
read from the fields of L{Configuration}.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import inspect

from openai_server.config.configuration import Configuration
from openai_server.config.upstreams import UpstreamSettings, upstreamsFrom

Value: TypeAlias = str | int | float | bool | tuple[str | UpstreamSettings, ...] | None

#: What every environment variable of this server begins with.
PREFIX: Final = "OPENAI_SERVER_"


class ConfigurationError(Exception):
    """
    The settings cannot be used. The text is one line that names the place
    (file, variable or option), the key and the reason, and never a secret.
    """


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting: its names, its values and its meaning.

    @ivar name: the file's key, and the field of the configuration.
    @ivar type: what msgspec converts its values to.
    @ivar wanted: the values in words, to follow "is not".
    @ivar default: what holds when nobody says anything.
    @ivar what: half a sentence for C{--help} and the README.
    @ivar unit: of a number, when it has one.
    @ivar isSecret: whether the value is never shown.
    @ivar isPath: whether its values are paths, which have to be made absolute.
    @ivar isURL: whether its value is a URL, whose password is never shown.
    @ivar isList: whether it has several values: its option can be repeated.
    @ivar isFlag: whether its option takes no value: said, it means C{true}.
    @ivar isUpstreams: whether its values are daemons.
    @ivar ownVariable: the environment variable, where it is not the derived one.
    @ivar places: where it can be set: C{file}, C{environment}, C{option}.
    """

    name: str
    type: Any
    wanted: str
    default: Value
    what: str
    unit: str = ""
    isSecret: bool = False
    isPath: bool = False
    isURL: bool = False
    isList: bool = False
    isFlag: bool = False
    isUpstreams: bool = False
    ownVariable: str | None = None
    places: tuple[str, ...] = ("file", "environment", "option")

    @property
    def variable(self) -> str:
        """
        The name in the environment.
        """
        return self.ownVariable or PREFIX + self._words("_").upper()

    @property
    def option(self) -> str:
        """
        The name on the command line, with its dashes.
        """
        return "--" + self._words("-")

    def parse(self, where: str, value: object, isText: bool) -> Value:
        """
        Return the setting's value.

        @param value: from JSON, or a text of the environment or the command
            line, or the texts of an option that was repeated.
        @raise ConfigurationError: the value is none of this setting's.
        """
        if value == "" and self.isSecret:
            return None
        if isText and self.isList:
            value = [item for part in str(value).split(",") if (item := part.strip())]
        if self.isUpstreams:
            try:
                return upstreamsFrom(value)
            except ValueError as error:
                raise ConfigurationError(f"{where}{error}") from None
        try:
            # A number is never taken from JSON's text; 0 and 1 are truth values everywhere.
            return msgspec.convert(value, self.type, strict=isinstance(value, str) and not isText)  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            what = "the value" if self.isSecret or self.isURL else shown(value)
            raise ConfigurationError(f"{where}: {what} {self._reason(value, str(error))}") from None

    def _reason(self, value: object, error: str) -> str:
        if value == "":
            return "is empty"
        if "matching regex" in error and not (self.isList and "" in value):  # type: ignore[operator]
            return "has control characters or spaces at its ends"
        return f"is not {self.wanted}"

    def _words(self, between: str) -> str:
        return re.sub("(?=[A-Z])", between, self.name).lower()


def _settingFrom(field: msgspec.structs.FieldInfo) -> Setting:
    kind = inspect.type_info(field.type)
    assert isinstance(kind, inspect.Metadata) and kind.extra_json_schema is not None
    unit = "s" if isinstance(kind.type, inspect.FloatType) else ""
    return Setting(
        name=field.name,
        type=field.type,
        wanted=_wanted(kind.type),
        default=field.default,
        what=kind.extra_json_schema["description"],
        isList=isinstance(kind.type, inspect.VarTupleType),
        **{"unit": unit, **(kind.extra or {})},
    )


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.FloatType():
            return f"a number of seconds {'from' if kind.gt is None else 'above'} 0 up to a year"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.VarTupleType():
            return "a list of strings"
        case _:
            return "a string"


#: Every setting, in the order of the README's table.
SETTINGS: Final = tuple(map(_settingFrom, msgspec.structs.fields(Configuration)))
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


def shown(value: object) -> str:
    """
    Return a value on one line, short and without control characters.
    """
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def guess(key: str) -> str:
    """
    Return the question whether another key was meant, or nothing.
    """
    plain = {setting.name.lower(): setting.name for setting in SETTINGS}
    folded = re.sub("[^a-z]", "", key.lower()).removeprefix("openaiserver")
    close = get_close_matches(folded, plain, 1)
    return f"; did you mean {plain[close[0]]}?" if close else ""


def markdownTable() -> str:
    """
    Return the README's table of settings.
    """
    head = "| file key | environment | option | default | what |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(map(_markdownRow, SETTINGS))


def _markdownRow(setting: Setting) -> str:
    names = {"file": setting.name, "environment": setting.variable, "option": setting.option}
    cells = [f"`{name}`" if place in setting.places else "-" for place, name in names.items()]
    default = setting.default
    value = "unset" if default is None or default == () else f"`{json.dumps(default).strip(chr(34))}`"
    return f"| {' | '.join(cells)} | {f'{value} {setting.unit}'.strip()} | {setting.what} |\n"

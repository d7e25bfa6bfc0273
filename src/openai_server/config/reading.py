# -*- test-case-name: tests.test_config -*-
"""
From what somebody wrote to a setting's value, or to one line that says why not.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches

from openai_server.config.kinds import Value
from openai_server.config.settings import SETTINGS, Setting


class ConfigurationError(Exception):
    """
    The settings cannot be used. The text is one line that names the place
    (file, variable or option), the key and the reason, and never a secret.
    """


def parsed(where: str, setting: Setting, value: object, isText: bool) -> Value:
    """
    @raise ConfigurationError: the value is not of the setting's kind; the
        value of a secret is left out of the text.
    """
    if value is None and setting.default is None:
        return None
    if value == "" and setting.isSecret:
        return None
    try:
        if value == "":
            raise ValueError("is empty")
        return setting.kind.fromText(str(value)) if isText else setting.kind.fromJSON(value)
    except ValueError as error:
        what = "the value" if setting.isSecret else shown(value)
        raise ConfigurationError(f"{where}: {what} {error}") from None


def shown(value: object) -> str:
    """
    A value on one line, short and without control characters.
    """
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def guess(key: str) -> str:
    """
    The question whether another key was meant, or nothing.
    """
    plain = {setting.name.lower(): setting.name for setting in SETTINGS}
    folded = re.sub("[^a-z]", "", key.lower()).removeprefix("openaiserver")
    close = get_close_matches(folded, plain, 1)
    return f"; did you mean {plain[close[0]]}?" if close else ""

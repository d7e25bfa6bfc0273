# -*- test-case-name: tests.accounts.test_keys -*-
"""
Keys: how one is made, and what is known of it afterwards.
"""

from __future__ import annotations

import re
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

#: What every key that is made here begins with.
PREFIX: Final = "sk-hum-"
#: Characters of a key that are shown: enough to tell it from others, and far
#: too few to guess the rest.
_SHOWN: Final = len(PREFIX) + 4
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
#: That of the key in the settings, which keeps its things under another name:
#: see L{settingsAccount}.
DEFAULT: Final = "default"
#: What such names look like.
_HASHED: Final = re.compile(r"[0-9a-f]{16}")


def newKey() -> str:
    """
    Return a key that nobody can guess: 32 random bytes.
    """
    return PREFIX + token_urlsafe(32)


def digestOf(key: bytes) -> bytes:
    """
    Return what a key is known again by. No salt and no slow hash is needed for
    32 random bytes: nobody can try them all.
    """
    return sha256(key).digest()


def shownOf(key: str) -> str:
    """
    Return the first characters of a key, for lists.
    """
    return key[:_SHOWN]


def isName(text: str) -> bool:
    """
    Whether a key can be called this.
    """
    return _NAME.fullmatch(text) is not None


def isAccountName(text: str) -> bool:
    """
    Whether an account can be called this: not like that of the settings.
    """
    return isName(text) and text != DEFAULT and _HASHED.fullmatch(text) is None

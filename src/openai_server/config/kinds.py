# -*- test-case-name: tests.test_config -*-
"""
What values a setting may have: the kinds of settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

Value: TypeAlias = str | int | float | bool | tuple[str, ...] | None

#: A wait of a year: more is a mistake, and timers overflow somewhere beyond.
_MOST_SECONDS: Final = 31_536_000


class Kind(Protocol):
    """
    What values a setting may have. Both methods raise C{ValueError} with the
    reason, worded to follow the value: C{is not a whole number}.
    """

    def fromJSON(self, value: object) -> Value:
        """
        A value of the configuration file.
        """

    def fromText(self, text: str) -> Value:
        """
        A value of the environment or the command line.
        """


@dataclass(frozen=True)
class Text:
    """
    A string on one line, perhaps one of a few.
    """

    choices: tuple[str, ...] = ()

    def fromJSON(self, value: object) -> str:
        """
        See L{Kind.fromJSON}.
        """
        if not isinstance(value, str):
            raise ValueError("is not a string")
        return self.fromText(value)

    def fromText(self, text: str) -> str:
        """
        See L{Kind.fromText}.
        """
        if self.choices and text not in self.choices:
            raise ValueError(f"is not one of {', '.join(self.choices)}")
        if not text.isprintable() or text != text.strip():
            raise ValueError("has control characters or spaces at its ends")
        return text


@dataclass(frozen=True)
class Whole:
    """
    A whole number between two bounds, both included.
    """

    least: int
    most: int

    def fromJSON(self, value: object) -> int:
        """
        See L{Kind.fromJSON}.
        """
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise ValueError(f"is not a whole number from {self.least} to {self.most}")
        return value

    def fromText(self, text: str) -> int:
        """
        See L{Kind.fromText}.
        """
        return self.fromJSON(int(text) if re.fullmatch("-?[0-9]{1,18}", text) else None)


@dataclass(frozen=True)
class Seconds:
    """
    A duration.

    @ivar mayBeZero: zero makes sense: do not wait at all.
    """

    mayBeZero: bool = False

    def fromJSON(self, value: object) -> float:
        """
        See L{Kind.fromJSON}.
        """
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("is not a number of seconds")
        if not 0 <= value <= _MOST_SECONDS or (value == 0 and not self.mayBeZero):
            least = "from" if self.mayBeZero else "above"
            raise ValueError(f"is not a number of seconds {least} 0 up to a year")
        return value

    def fromText(self, text: str) -> float:
        """
        See L{Kind.fromText}.
        """
        return self.fromJSON(float(text) if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", text) else None)


@dataclass(frozen=True)
class Truth:
    """
    Yes or no.
    """

    def fromJSON(self, value: object) -> bool:
        """
        See L{Kind.fromJSON}.
        """
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise ValueError("is not true or false")

    def fromText(self, text: str) -> bool:
        """
        See L{Kind.fromText}.
        """
        try:
            return {"true": True, "1": True, "false": False, "0": False}[text]
        except KeyError:
            raise ValueError("is not true, false, 1 or 0") from None


@dataclass(frozen=True)
class Listing:
    """
    Several strings: an array in the file, comma-separated in the environment,
    the option repeated on the command line.

    @ivar most: bytes that they may have together, with a blank between two.
    """

    most: int | None = None

    def fromJSON(self, value: object) -> tuple[str, ...]:
        """
        See L{Kind.fromJSON}.
        """
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise ValueError("is not a list of strings")
        items = tuple(Text().fromText(item) for item in value)
        if self.most is not None and len(" ".join(items).encode("utf-8", "replace")) > self.most:
            raise ValueError(f"has more than {self.most} bytes together")
        return items

    def fromText(self, text: str) -> tuple[str, ...]:
        """
        See L{Kind.fromText}.
        """
        return self.fromJSON([item for part in text.split(",") if (item := part.strip())])

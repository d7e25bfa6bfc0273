"""
A seal that hides nothing.
"""

from __future__ import annotations


class PlainSeal:
    """
    Shows what was sealed.
    """

    def seal(self, text: str) -> str:
        return f"sealed:{text}"

    def open(self, token: str) -> str | None:
        return token.removeprefix("sealed:") if token.startswith("sealed:") else None

# -*- test-case-name: tests.admin.test_doctor -*-
"""
What the doctor has found.
"""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """
    One thing that was looked at.

    @ivar what: in a word or two.
    @ivar said: how it is.
    @ivar remedy: how to mend it; None where all is well.
    """

    what: str
    said: str
    remedy: str | None = None

    @property
    def line(self) -> str:
        """
        It on one line.
        """
        if self.remedy is None:
            return f"ok     {self.what}: {self.said}"
        return f"WRONG  {self.what}: {self.said}; {self.remedy}"

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
        It on one line. Some of it is other programs' words, which a terminal is
        not to obey.
        """
        line = f"ok     {self.what}: {self.said}"
        if self.remedy is not None:
            line = f"WRONG  {self.what}: {self.said}; {self.remedy}"
        return "".join([each if each.isprintable() else "?" for each in line])

"""
Names that a model must not see.
"""

from __future__ import annotations

from openai_server.api.rules import MAX_TOOLS
from openai_server.errors import APIError
from openai_server.wire.hiding import (
    MAX_ARGUMENT,
    OUR_PREFIX,
    checkNames,
    firstThatFit,
    roomBeside,
    sizeOf,
)
from tests.support import SyncCase

#: As long as names on the wire may be.
LONGEST = [f"{number:04}".ljust(54, "x") for number in range(MAX_TOOLS)]


class HidingTests(SyncCase):
    def test_sizeInTheArgument(self) -> None:
        """
        All bytes of the argument are counted: prefixes, separators, what is
        disallowed besides, which need not be ASCII.
        """
        own = ["Bash", "Grün"]
        names = ["f", "look_up"]
        argument = " ".join([*own, *(OUR_PREFIX + name for name in names)])
        self.assertEqual(MAX_ARGUMENT - roomBeside(own) + sizeOf(names), len(argument.encode()) + 1)

    def test_oneRequestAlwaysFits(self) -> None:
        """
        As many tools as a request may have, with names as long as they may be,
        can be hidden; so can those of several ordinary ones.
        """
        checkNames(LONGEST, roomBeside([]), "tools")
        self.assertEqual(firstThatFit(LONGEST, roomBeside([])), LONGEST)
        ordinary = [f"server_{at}__do_something_{number}" for at in range(4) for number in range(500)]
        checkNames(ordinary, roomBeside([]), "tools")

    def test_tooLongBesideTheOperatorsOwn(self) -> None:
        """
        Where the settings leave too little room, the request is refused.
        """
        room = roomBeside(["x" * 70_000])
        self.assertEqual(room, 29_999)
        failure = self.assertRaises(APIError, checkNames, LONGEST, room, "tools")
        self.assertEqual((failure.kind.status, failure.param), (400, "tools"))
        checkNames(LONGEST[:450], room, "tools")

    def test_firstThatFit(self) -> None:
        """
        The first ones, up to the last byte.
        """
        names = ["a", "bb", "c"]
        whole = sizeOf(names)
        self.assertEqual(
            [firstThatFit(names, room) for room in (whole, whole - 1, sizeOf(names[:2]), 0, -5)],
            [names, names[:2], names[:2], [], []],
        )

"""
What is known of a worker's list of tools.
"""

from __future__ import annotations

from collections.abc import Sequence

from openai_server.sessions.catalogue.toollist import SILENCE, ToolList
from openai_server.sessions.catalogue.wirenames import PromptTools, WireNames
from openai_server.wire.hiding import sizeOf
from openai_server.wire.tones import ToolDefinition
from tests.support import SyncCase, TestClock


def tool(name: str, description: str = "") -> ToolDefinition:
    """
    A tool without parameters.
    """
    return ToolDefinition(name=name, description=description, inputSchema={"type": "object"})


def toolSet(*names: str) -> PromptTools:
    """
    Tools with these names, in a session of their own.
    """
    return PromptTools([tool(name) for name in names], WireNames())


ONE, OTHER = toolSet("f", "g"), toolSet("h")


class ToolListTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.live: dict[str, ToolDefinition] = {}
        self.list = ToolList(self.clock, lambda: self.live)

    def hidden(self, turn: str, tools: PromptTools | None = None) -> Sequence[str]:
        """
        What a prompt that goes out now must hide.
        """
        return self.list.started(turn, tools).hidden

    def test_sameToolsStartTogether(self) -> None:
        """
        U31: a prompt with the last one's tools does not wait, one with others
        does, one without tools does not.
        """
        self.list.started("a", ONE)
        self.assertTrue(self.list.isOpenFor(toolSet("f", "g")))
        self.assertFalse(self.list.isOpenFor(OTHER))
        self.assertTrue(self.list.isOpenFor(None))

    def test_lifeOpens(self) -> None:
        """
        U31: when all that were started have shown life, other tools may come.
        """
        self.list.started("a", ONE)
        self.list.started("b", ONE)
        self.list.showedLife("a")
        self.assertFalse(self.list.isOpenFor(OTHER))
        self.list.showedLife("b")
        self.assertTrue(self.list.isOpenFor(OTHER))

    def test_promptWithoutToolsIsWaitedFor(self) -> None:
        """
        Its process reads the list as well; only what it hides may be there.
        """
        self.list.started("a", None)
        self.assertFalse(self.list.isOpenFor(ONE))
        self.list.showedLife("a")
        self.assertTrue(self.list.isOpenFor(ONE))
        self.list.started("b", ONE)
        self.list.showedLife("b")
        self.list.started("c", None)
        self.assertTrue(self.list.isOpenFor(ONE))
        self.assertFalse(self.list.isOpenFor(OTHER))

    def test_goneIsNotWaitedFor(self) -> None:
        """
        What a cancelled turn's model sees matters to nobody.
        """
        self.list.started("a", ONE)
        self.list.gone("a")
        self.assertTrue(self.list.isOpenFor(OTHER))

    def test_silence(self) -> None:
        """
        U31: who showed nothing for 15 s no longer counts; the gate says how
        long that takes.
        """
        self.list.started("a", ONE)
        self.clock.advance(5)
        self.list.started("b", ONE)
        self.assertEqual(self.list.secondsShut(), SILENCE - 5)
        self.clock.advance(SILENCE - 5)
        self.assertEqual(self.list.secondsShut(), 5)
        self.assertFalse(self.list.isOpenFor(OTHER))
        self.clock.advance(5)
        self.assertTrue(self.list.isOpenFor(OTHER))
        self.assertEqual(self.list.secondsShut(), 0)

    def test_namesOfOthers(self) -> None:
        """
        What somebody else has put into the list is hidden once it was seen,
        until a list of ours has taken its place, and as long as all fits.
        """
        self.list.sawOthers(["theirs"])
        self.assertEqual(self.hidden("a", None), ("theirs",))
        self.list.showedLife("a")
        self.list.started("b", ONE)
        self.assertEqual(self.hidden("c", None), ("f", "g", "theirs"))
        self.list.showedLife("b")
        self.assertEqual(self.hidden("d", None), ("f", "g"))
        narrow = ToolList(self.clock, lambda: self.live, sizeOf(["theirs"]))
        narrow.sawOthers(["theirs"])
        narrow.sawOthers(["more"])
        self.assertEqual(narrow.started("a", None).hidden, ("theirs",))

    def test_hiddenNames(self) -> None:
        """
        A prompt without tools is told what the worker's list may hold; one
        with tools overwrites the list.
        """
        self.assertEqual(self.hidden("a", None), ())
        self.assertEqual(self.hidden("b", ONE), ())
        self.list.showedLife("b")
        self.assertEqual(self.hidden("c", None), ("f", "g"))

    def test_namesOfAnUnseenList(self) -> None:
        """
        Until a turn shows that its list has reached the worker, the names of
        the list before may still be there.
        """
        self.list.started("a", ONE)
        self.list.showedLife("a")
        self.list.started("b", OTHER)
        self.assertEqual(self.hidden("c", None), ("f", "g", "h"))
        self.list.showedLife("b")
        self.assertEqual(self.hidden("d", None), ("h",))

    def test_lateLifeProvesNothing(self) -> None:
        """
        A turn that was given up for silent read its list before later ones.
        """
        self.list.started("a", ONE)
        self.clock.advance(SILENCE)
        self.assertTrue(self.list.isOpenFor(OTHER))
        self.list.started("b", OTHER)
        self.clock.advance(SILENCE)
        self.assertTrue(self.list.isOpenFor(ONE))
        self.list.started("c", ONE)
        self.list.showedLife("a")
        self.assertEqual(self.hidden("d", None), ("f", "g", "h"))

    def test_liveToolsAreInTheList(self) -> None:
        """
        A prompt brings what is live into the list, elsewhere too: those that
        start must hide all of it.
        """
        self.list.started("a", ONE)
        self.live = {name: tool(name) for name in "fgh"}
        self.assertFalse(self.list.isOpenFor(ONE))
        self.assertFalse(self.list.isOpenFor(None))
        self.list.showedLife("a")
        self.list.started("b", ONE)
        self.assertTrue(self.list.isOpenFor(OTHER))
        self.assertTrue(self.list.isOpenFor(None))
        self.assertFalse(self.list.isOpenFor(toolSet("k")))

    def test_ownToolsMustStayInTheList(self) -> None:
        """
        Where nothing is live, as for daemons that know no names, a prompt with
        fewer tools takes some away, and one with another tool of a name
        replaces it.
        """
        self.list.started("a", ONE)
        self.assertFalse(self.list.isOpenFor(toolSet("f")))
        self.assertFalse(self.list.isOpenFor(PromptTools([tool("f"), tool("g", "x")], WireNames())))

    def test_anotherToolOfALiveName(self) -> None:
        """
        It goes out under another name, which is hidden later.
        """
        self.live = {"f": tool("f", "theirs")}
        named = self.list.started("a", toolSet("f")).tools
        assert named is not None
        self.assertEqual(list(named.own), ["f_2"])
        self.list.showedLife("a")
        self.live = {}
        self.assertEqual(self.hidden("b"), ("f", "f_2"))

    def test_liveToolsBeforeAPromptWithoutAny(self) -> None:
        """
        They may have overwritten the list, or not: what a turn with tools shows
        later does not prove what is there.
        """
        self.list.started("a", ONE)
        self.live = {"f": tool("f"), "k": tool("k")}
        self.list.started("b", None)
        self.live = {}
        self.list.showedLife("a")
        self.assertEqual(self.hidden("c"), ("f", "g", "k"))


class CrowdedListTests(SyncCase):
    """
    A gate behind which the names of two lists cannot be hidden together.
    """

    NAMES = [[f"{letter}{number}" for number in range(9)] for letter in "abc"]

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.list = ToolList(self.clock, dict, sizeOf(self.NAMES[0]) + sizeOf(["b0", "b1"]))
        self.first, self.second, self.third = (toolSet(*names) for names in self.NAMES)
        self.list.started("a", self.first)
        self.list.showedLife("a")

    def hidden(self) -> set[str]:
        """
        What is hidden from a prompt that goes out now.
        """
        names = self.list.started("innocent", None).hidden
        self.assertEqual(list(names), sorted(names))
        self.list.gone("innocent")
        return set(names)

    def test_waitsForTheLastList(self) -> None:
        """
        A prompt without tools waits until it is known which list there is, and
        no longer.
        """
        self.assertTrue(self.list.isOpenFor(None))
        self.list.started("b", self.second)
        self.list.started("c", self.second)
        self.assertFalse(self.list.isOpenFor(None))
        self.assertTrue(self.list.isOpenFor(self.second))
        self.list.showedLife("b")
        self.assertTrue(self.list.isOpenFor(None))
        self.assertFalse(self.list.isOpenFor(self.first))
        self.assertEqual(self.hidden(), set(self.NAMES[1]))

    def test_lastListIsNeverShown(self) -> None:
        """
        When nobody will show which list there is, the last one's names are
        hidden, and as many of the others as there is room for.
        """
        self.list.started("b", self.second)
        self.list.gone("b")
        self.assertTrue(self.list.isOpenFor(None))
        self.assertEqual(self.hidden(), {*self.NAMES[1], "a0", "a1"})
        self.list.started("c", self.third)
        self.assertFalse(self.list.isOpenFor(None))
        self.clock.advance(SILENCE)
        self.assertTrue(self.list.isOpenFor(None))
        self.assertEqual(self.hidden(), {*self.NAMES[2], "b0", "b1"})

    def test_sameListAgainProvesNothing(self) -> None:
        """
        Only life shows that a list has arrived.
        """
        for turn in "bcd":
            self.list.started(turn, self.second)
        self.assertFalse(self.list.isOpenFor(None))

    def test_manyListsThatNobodyShows(self) -> None:
        """
        Clients that ask and leave do not make the gate grow.
        """
        for number in range(100):
            self.list.started("b", toolSet(*(f"{number:04}_{at}" for at in range(9))))
            self.list.gone("b")
        self.assertEqual(len(self.list._visible), 18)

    def test_tooManyLiveTools(self) -> None:
        """
        Who cannot hide all that is live waits until nobody starts.
        """
        live = ToolList(self.clock, lambda: {name: tool(name) for names in self.NAMES for name in names}, 200)
        live.started("a", self.first)
        self.assertFalse(live.isOpenFor(self.second))
        self.assertFalse(live.isOpenFor(None))
        live.showedLife("a")
        self.assertTrue(live.isOpenFor(self.second))
        self.assertTrue(live.isOpenFor(None))

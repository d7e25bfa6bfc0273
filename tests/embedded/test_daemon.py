"""
Tests of the daemon's own business: who owns what, who is registered, how it
dies and comes back. What the recorded tones show is in L{test_corpus}.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from openai_server.embedded import state
from openai_server.embedded.daemon import EmbeddedDaemon
from openai_server.embedded.settings import WorkerSettings
from tests.embedded.bees import Bee
from tests.embedded.worlds import World
from tests.support import SyncCase, TestClock


def folderOf(world: World) -> Path:
    """
    Where the daemon keeps its files.
    """
    assert world.daemon.registryPath is not None
    return world.daemon.registryPath.parent


class RegistryTests(SyncCase):
    """
    The registry file.
    """

    def test_workerAndBeesAreInTheFile(self) -> None:
        """
        A manifest for each client that said hello; empty members are left out.
        """
        world = World(self, folder=True)
        self.assertEqual([each["bee"] for each in world.registry.values()], [["worker"]])
        self.assertIn("echo", next(iter(world.registry.values()))["models"])
        Bee(world.daemon, "mute")
        bee = Bee(world.daemon, "a")
        bind = {"host": "127.0.0.1", "port": 1, "scheme": "http"}
        bee.hello(provides=["session"], version="1", protoVersion="0.7.0", bind=bind)
        manifest = world.registry[f"client-{bee.number}"]
        self.assertEqual(
            manifest,
            {
                "name": "test",
                "version": "1",
                "proto_version": "0.7.0",
                "bee": ["forager"],
                "provides": ["session"],
                "hid": manifest["hid"],
                "bind": bind,
            },
        )
        self.assertEqual(len(world.registry), 2)

    def test_disconnectTakesTheManifestOut(self) -> None:
        """
        At once.
        """
        world = World(self, folder=True)
        world.bee().close()
        self.assertEqual(len(world.registry), 1)

    def test_killedWorkerDisappears(self) -> None:
        """
        Nobody is told, but the file says so; another worker stays.
        """
        world = World(self, folder=True)
        bee = world.ask([{"say": "x"}, {"sleep": 1}, {"say": "y"}])
        other = world.daemon.addWorker("script")
        before = bee.tones
        world.daemon.killWorker(world.daemon.workers[0])
        self.assertEqual(world.daemon.workers, [other])
        self.assertEqual([each.get("models") for each in world.registry.values()], [["script"], None])
        world.clock.advance(10)
        self.assertEqual(bee.tones, before)

    def test_sameHidEvictsTheRegistrationOnly(self) -> None:
        """
        The older connection's turn is still answered.
        """
        world = World(self, folder=True)
        first = world.bee("same", "x")
        first.prompt("s1", "hello")
        second = world.bee("same")
        world.clock.advance(0.5)
        self.assertEqual(first.text("s1"), "hello")
        self.assertEqual(list(world.registry)[1:], [f"client-{second.number}"])

    def test_evictedNamesAreNotRouted(self) -> None:
        """
        Tool names of an evicted registration do not count.
        """
        world = World(self)
        first = world.bee("same", "x")
        first.prompt("s1", [{"tool": "x"}])
        world.bee("same")
        world.clock.advance(0.5)
        self.assertIn("sigil", first.chis("tool-call")[0])

    def test_fileIsReplacedAsAWhole(self) -> None:
        """
        A reader that has it open keeps a whole file.
        """
        world = World(self, folder=True)
        assert world.daemon.registryPath is not None
        with world.daemon.registryPath.open() as file:
            world.bee()
            self.assertNotEqual(os.fstat(file.fileno()).st_ino, world.daemon.registryPath.stat().st_ino)

    def test_fileIsPrivate(self) -> None:
        """
        Nobody else can read it, whatever the umask is, the first one and a
        later one.
        """
        self.addCleanup(os.umask, os.umask(0))
        world = World(self, folder=True)
        assert world.daemon.registryPath is not None
        for _ in range(2):
            self.assertEqual(world.daemon.registryPath.stat().st_mode & 0o777, 0o600)
            world.bee()

    def test_folderIsPrivateAndGoesWithTheDaemon(self) -> None:
        """
        Nobody else can look into it; nothing is left after the stop.
        """
        world = World(self, folder=True)
        assert world.daemon.registryPath is not None
        folder = world.daemon.registryPath.parent
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.successResultOf(world.daemon.stop())
        self.assertFalse(folder.exists())
        self.assertIsNone(world.daemon.registryPath)

    def test_withoutAFolder(self) -> None:
        """
        In memory there is neither file nor socket.
        """
        daemon = World(self).daemon
        self.assertEqual((daemon.registryPath, daemon.socketPath), (None, None))


class OwnershipTests(SyncCase):
    """
    Who gets a session's tones.
    """

    def test_everyOwnerGetsEveryTone(self) -> None:
        """
        By prompt and by attach; others that own something get nothing.
        """
        world = World(self)
        asker, attached, busy = world.bee("a"), world.bee("b"), world.bee("c")
        busy.send(chi="attach", sid="other")
        asker.prompt("s1", "hello")
        attached.send(chi="attach", sid="s1")
        world.clock.advance(0.5)
        self.assertEqual([bee.text("s1") for bee in (asker, attached, busy)], ["hello", "hello", ""])

    def test_cancelAndToolResultTakeNoOwnership(self) -> None:
        """
        A client that only sent those still owns nothing.
        """
        world = World(self)
        bee = world.bee()
        bee.send(chi="cancel", sid="s1")
        bee.send(chi="tool-result", sid="s1", callId="c", output="")
        self.assertEqual(bee.client.owned, {})

    def test_strangersAnswerComesToWhoOwnsNothing(self) -> None:
        """
        A bee that just connected is shown an answer that nobody owns.
        """
        world = World(self)
        asker = world.bee("a")
        asker.prompt("s1", "hello")
        asker.close()
        fresh = world.bee("b")
        world.clock.advance(0.5)
        self.assertEqual(fresh.text("s1"), "hello")

    def test_whatIsOwnedIsBounded(self) -> None:
        """
        A client that never goes away does not make the daemon grow for ever.
        """
        self.patch(state, "MAX_OWNED", 2)
        world = World(self)
        bee = world.bee()
        for sid in ("s1", "s2", "s3"):
            bee.send(chi="attach", sid=sid)
        self.assertEqual(list(bee.client.owned), ["s2", "s3"])
        assert world.daemon.state is not None
        self.assertEqual(list(world.daemon.state.owners), ["s2", "s3"])

    def test_routedCallGoesToOneBeeWhoeverAsked(self) -> None:
        """
        A call goes to a bee that lists the name, also for turns of others, and
        its result goes back to the worker.
        """
        world = World(self)
        asker, holder = world.bee("a"), world.bee("b", "x")
        asker.prompt("s1", [{"tool": "x"}])
        world.clock.advance(0.5)
        (call,) = holder.chis("tool-call")
        self.assertEqual((asker.chis("tool-call"), "sigil" in call), ([], False))
        holder.send(chi="tool-result", sid="s1", callId=call["callId"], output="r")
        world.clock.advance(0)
        self.assertEqual(asker.text("s1"), "[r]")

    def test_sameCallIdInTwoSids(self) -> None:
        """
        Each call gets its own result.
        """
        world = World(self)
        bee = world.bee("a", "x")
        for sid in ("s1", "s2"):
            bee.prompt(sid, [{"tool": "x", "callId": "same"}])
        world.clock.advance(0.5)
        for sid in ("s2", "s1"):
            bee.send(chi="tool-result", sid=sid, callId="same", output=sid)
        world.clock.advance(0)
        self.assertEqual((bee.text("s1"), bee.text("s2")), ("[s1]", "[s2]"))


class PromptTests(SyncCase):
    """
    Prompts that are not as usual.
    """

    def test_olderNameOfContent(self) -> None:
        """
        C{text} is read where there is no C{content}.
        """
        world = World(self)
        bee = world.bee()
        bee.send(chi="prompt", sid="s1", modelId="script", text="old")
        world.clock.advance(0.5)
        self.assertEqual(bee.text("s1"), "old")

    def test_withoutModelIsSonnet(self) -> None:
        """
        The daemon looks for that model then.
        """
        bee = World(self).bee()
        bee.send(chi="prompt", sid="s1", content="x")
        self.assertEqual(bee.tones[-1]["message"], "no worker bee advertises model 'sonnet'")

    def test_withoutSid(self) -> None:
        """
        It is echoed, and that is all.
        """
        world = World(self)
        bee = world.bee()
        bee.send(chi="prompt", modelId="script", content="x", rid="a-0")
        bee.send(chi="prompt", modelId="script", content="x", rid="a-1", sid="")
        world.clock.advance(1)
        self.assertEqual([tone["chi"] for tone in bee.tones[2:]], ["echo"] * 4)

    def test_oddMembersHarmNothing(self) -> None:
        """
        What is not of its documented type is taken for absent.
        """
        world = World(self)
        bee = world.bee()
        bee.send(chi="hello", tools="x", provides=5)
        odd = {"systemPrompt": 7, "allowedTools": "x", "rid": 5, "dusk": "x"}
        bee.prompt("s1", [{"options": 1}], tools=[None, {"name": 5}, "x"], **odd)
        world.clock.advance(0.5)
        self.assertEqual(bee.text("s1"), '{"system": null, "allowed": null, "disallowed": null}')

    def test_notYetPastDusk(self) -> None:
        """
        A tone that has time left is taken.
        """
        world = World(self)
        bee = world.bee()
        bee.send(chi="perf-mark", rid="a-0", dusk=1_000_000_001 * 1000)
        bee.send(chi="perf-mark", rid="a-1", dusk=999_999 * 1000)
        self.assertEqual([echo["ok"] for echo in bee.chis("echo")], [True, False])

    def test_theFirstWorkerTakesAll(self) -> None:
        """
        A second worker for the same model adds nothing.
        """
        world = World(self)
        world.daemon.addWorker("script")
        bee = world.bee()
        for number in range(3):
            bee.prompt(f"s{number}", "x")
        self.assertEqual([worker.processes for worker in world.daemon.workers], [3, 0])


class LifeTests(SyncCase):
    """
    Death and return of the daemon.
    """

    def test_restart(self) -> None:
        """
        Connections are cut, turns forgotten, the incarnation is another one;
        the worker is back after a while.
        """
        world = World(self, workerReturn=1.0)
        bee = world.ask([{"say": "a"}, {"sleep": 2}, {"say": "b"}])
        before = world.daemon.incarnation
        self.successResultOf(world.daemon.restart())
        self.assertTrue(bee.isLost)
        self.assertNotEqual(world.daemon.incarnation, before)
        again = world.bee()
        again.send(chi="attach", sid="s1")
        again.prompt("s2", "early")
        self.assertIn("no worker bee", again.tones[-1]["message"])
        world.clock.advance(3)
        self.assertEqual(again.text("s1"), "")
        again.prompt("s1", "next")
        world.clock.advance(0)
        self.assertEqual(again.text("s1"), "next")

    def test_resultsOfForgottenCallsAreLost(self) -> None:
        """
        A restarted daemon knows no route; the call times out.
        """
        world = World(self)
        bee = world.bee("a", "x")
        bee.prompt("s1", [{"tool": "x"}])
        world.clock.advance(0.5)
        (call,) = bee.chis("tool-call")
        self.successResultOf(world.daemon.restart())
        again = world.bee("a", "x")
        again.send(chi="attach", sid="s1")
        again.send(chi="tool-result", sid="s1", callId=call["callId"], output="r")
        world.clock.advance(5)
        self.assertFalse(world.daemon.isIdle)
        world.clock.advance(60)
        self.assertTrue(world.daemon.isIdle)
        self.assertEqual(again.text("s1"), "")

    def test_fileIsOldUntilTheFirstHello(self) -> None:
        """
        After a restart the file shows the old state, then lacks the worker
        until it is back.
        """
        world = World(self, folder=True)
        world.bee()
        self.successResultOf(world.daemon.restart())
        self.assertEqual(len(world.registry), 2)
        world.bee()
        self.assertEqual([each["bee"] for each in world.registry.values()], [["forager"]])
        world.clock.advance(1)
        self.assertEqual(len(world.registry), 2)

    def test_whileDownNobodyComesIn(self) -> None:
        """
        There is no protocol for a connection.
        """
        world = World(self)
        self.successResultOf(world.daemon.crash())
        self.assertIsNone(world.daemon.buildProtocol())
        world.daemon.comeBack()
        self.assertIsNotNone(world.daemon.buildProtocol())

    def test_cutConnections(self) -> None:
        """
        All are cut; the daemon is the same one and forgets nothing.
        """
        world = World(self)
        bee = world.ask([{"sleep": 1}, {"say": "x"}])
        before = world.daemon.incarnation
        world.daemon.cutConnections()
        again = world.bee()
        again.send(chi="attach", sid="s1")
        world.clock.advance(1)
        self.assertEqual((bee.isLost, again.text("s1")), (True, "x"))
        self.assertEqual(world.daemon.incarnation, before)

    def test_stopLeavesNothing(self) -> None:
        """
        Timers, turns and connections are gone, also in the middle of things.
        """
        world = World(self)
        bee = world.bee("a", "x")
        bee.prompt("s1", [{"tool": "x"}])
        bee.prompt("s2", [{"sleep": 5}])
        world.clock.advance(0.3)
        bee.prompt("s3", "starting")
        bee.prompt("s1", "waiting")
        self.successResultOf(world.daemon.stop())
        self.assertEqual((world.clock.getDelayedCalls(), bee.isLost), ([], True))

    def test_stopBeforeTheWorkerIsBack(self) -> None:
        """
        The return is called off.
        """
        world = World(self)
        self.successResultOf(world.daemon.restart())
        self.successResultOf(world.daemon.stop())
        self.assertEqual(world.clock.getDelayedCalls(), [])


class FolderTests(SyncCase):
    """
    The daemon's private folder.
    """

    def test_name(self) -> None:
        """
        It says whose it is, as L{openai_server.runtime} wants it, and only its
        owner gets in.
        """
        folder = folderOf(World(self, folder=True))
        self.assertRegex(folder.name, rf"\Aopenai-server-{os.getpid()}-[0-9a-f]{{16}}\Z")
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)

    def test_vanishes(self) -> None:
        """
        The daemon goes on without its registry file, and stops well.
        """
        world = World(self, folder=True)
        shutil.rmtree(folderOf(world))
        bee = world.ask("hello")
        bee.close()
        world.daemon.killWorkers()
        self.successResultOf(world.daemon.stop())

    def test_defaults(self) -> None:
        """
        A daemon needs nothing but a clock.
        """
        daemon = EmbeddedDaemon(clock=TestClock())
        self.assertEqual(daemon.settings, WorkerSettings())
        self.assertEqual(daemon.settings.maxProcesses, 8)

    def test_comesInAndGoesByItself(self) -> None:
        """
        What L{FaultyDaemon} adds is not needed: a client is answered.
        """
        clock = TestClock()
        daemon = EmbeddedDaemon(clock=clock)
        daemon.startService()
        bee = Bee(daemon)
        bee.prompt("s1", "hello", "echo")
        clock.pump([0.1] * 5)
        self.assertEqual((bee.text("s1"), len(bee.chis("finish"))), ("hello", 1))
        self.successResultOf(daemon.stopService())
        self.assertEqual((daemon.workers, bee.isLost, clock.getDelayedCalls()), ([], True, []))

"""
Every file of recorded tones, replayed against the embedded daemon.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tests.embedded.bees import Bee
from tests.machinery.daemon import DaemonSettings, FaultyDaemon
from tests.machinery.models import script
from tests.support import SyncCase, TestClock

CORPUS = Path(__file__).parent.parent / "corpus"

#: Wall clock at the start of a replay: after the C{dusk} in C{echoes}.
START = 1_795_400_000.0

#: Seconds that a process takes to start: what the recordings show, which is a
#: little more than the 0.2 s that their scripted CLI slept.
START_UP = 0.24

#: Seconds of the clock that a tone may be late.
PATIENCE = 5.0

Tone: TypeAlias = dict[str, Any]
Record: TypeAlias = dict[str, Any]
#: A connection's serial number and a sid: what is compared in order.
Group: TypeAlias = tuple[int, str]


def recordsOf(path: Path) -> list[Record]:
    """
    The lines of one file.
    """
    return [json.loads(line) for line in path.read_text().splitlines()]


def paths() -> list[Path]:
    """
    All files of recorded tones.
    """
    return sorted(CORPUS.glob("*.jsonl"))


class Replay:
    """
    One file against a fresh daemon. After L{run}, what was recorded and what
    came, by connection and sid.

    An echo belongs to the sid of the tone that it echoes.
    """

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._clock = TestClock()
        self._daemon = FaultyDaemon(
            clock=self._clock,
            settings=DaemonSettings(models={"fake-model": script}, startUp=START_UP),
            now=lambda: START + self._clock.seconds(),
        )
        self._bees: list[Bee] = []
        self._current: dict[str, int] = {}
        self._sidOfRid: dict[str, str] = {}
        self._recorded: dict[Group, list[Tone]] = defaultdict(list)
        self._complaints: list[str] = []

    def run(self) -> list[str]:
        """
        Replay the file.

        @return: what was different, empty when nothing was.
        """
        self._daemon.start()
        for record in self._records:
            self._clock.advance(max(0.0, record["t"] - self._clock.seconds()))
            self._replay(record)
        self._await()
        self._clock.advance(0.05)
        self._daemon.stop()
        self._compare()
        if self._clock.getDelayedCalls():
            self._complaints.append("timers are left after the daemon's stop")
        return self._complaints

    def _replay(self, record: Record) -> None:
        if "act" in record:
            self._await()
            self._act(record)
        elif record["dir"] == "in":
            self._recorded[self._groupOf(self._current[record["bee"]], record["tone"])].append(record["tone"])
        else:
            self._await(self._current[record["bee"]])
            self._send(self._bees[self._current[record["bee"]]], record)

    def _act(self, record: Record) -> None:
        acts: Mapping[str, Callable[[], object]] = {
            "connect": lambda: self._connect(record["bee"]),
            "close": lambda: self._beeOf(record).close(),
            "lost": lambda: self._checkLost(record),
            "worker killed": self._daemon.killWorkers,
            "daemon killed": self._daemon.crash,
            "daemon started": self._daemon.comeBack,
        }
        acts[record["act"]]()

    def _connect(self, name: str) -> None:
        self._current[name] = len(self._bees)
        self._bees.append(Bee(self._daemon, name))

    def _beeOf(self, record: Record) -> Bee:
        return self._bees[self._current[record["bee"]]]

    def _checkLost(self, record: Record) -> None:
        if not self._beeOf(record).isLost:
            self._complaints.append(f"connection {record['bee']} is not lost at {record['t']}")

    def _send(self, bee: Bee, record: Record) -> None:
        if bee.isLost:
            return
        if "raw" in record:
            bee.sendBytes(record["raw"].encode("latin-1"))
            return
        tone = self._withOurCalls(record["tone"])
        if "rid" in tone:
            self._sidOfRid[tone["rid"]] = tone.get("sid", "")
        bee.sendBytes(json.dumps(tone).encode() + b"\n")

    def _withOurCalls(self, tone: Tone) -> Tone:
        ours = {theirs: ours for group in self._recorded for theirs, ours in self._calls(group)}
        return {**tone, "callId": ours.get(tone["callId"], tone["callId"])} if "callId" in tone else tone

    def _calls(self, group: Group) -> Iterator[tuple[str, str]]:
        theirs = (tone["callId"] for tone in self._recorded[group] if tone["chi"] == "tool-call")
        ours = (tone["callId"] for tone in self._came()[group] if tone["chi"] == "tool-call")
        return zip(theirs, ours, strict=False)

    def _groupOf(self, connection: int, tone: Tone) -> Group:
        return connection, tone.get("sid", self._sidOfRid.get(tone.get("rid", ""), ""))

    def _came(self) -> dict[Group, list[Tone]]:
        came: dict[Group, list[Tone]] = defaultdict(list)
        for connection, bee in enumerate(self._bees):
            for tone in bee.tones:
                came[self._groupOf(connection, tone)].append(tone)
        return came

    def _await(self, connection: int | None = None) -> None:
        end = self._clock.seconds() + PATIENCE
        while self._isWaiting(connection) and self._clock.seconds() < end:
            self._clock.advance(0.01)

    def _isWaiting(self, connection: int | None) -> bool:
        came = self._came()
        return any(
            len(came[group]) < len(tones)
            for group, tones in self._recorded.items()
            if connection in (None, group[0])
        )

    def _compare(self) -> None:
        came = self._came()
        for group in sorted(self._recorded.keys() | came.keys()):
            theirs = canonical(self._recorded[group])
            ours = canonical(came[group])
            if theirs != ours:
                self._complaints.append(f"{group}: recorded\n  {theirs}\ncame\n  {ours}")


def canonical(tones: list[Tone]) -> list[Tone]:
    """
    The tones of one group with the names that a daemon and its worker make up
    (call ids, sigils, ids of nests) replaced by the order of their appearance.
    """
    made: dict[tuple[str, str], str] = {}
    canonicals = []
    for tone in tones:
        names = {
            member: made.setdefault((member, tone[member]), f"{member} {len(made)}")
            for member in ("callId", "sigil", "nestId")
            if member in tone
        }
        canonicals.append({**tone, **names})
    return canonicals


def mutated(records: list[Record]) -> list[Record] | None:
    """
    The records with one scripted word changed in one prompt, or None when no
    prompt has one.
    """
    for place, record in enumerate(records):
        content = record.get("tone", {}).get("content", "")
        if '"say": "' in content:
            changed = content.replace('"say": "', '"say": "X', 1)
            return [
                *records[:place],
                {**record, "tone": {**record["tone"], "content": changed}},
                *records[place + 1 :],
            ]
    return None


class CorpusTests(SyncCase):
    """
    What the real daemon and its worker did, the embedded ones do. A method for
    each file is added below.
    """

    def test_thereAreFiles(self) -> None:
        """
        The recorded tones are there at all.
        """
        self.assertGreater(len(paths()), 20)

    def test_anotherWordIsNoticed(self) -> None:
        """
        A replay with one other word in its script does not match.
        """
        changed = [(path.stem, mutated(recordsOf(path))) for path in paths()]
        unnoticed = [name for name, records in changed if records is not None and not Replay(records).run()]
        self.assertEqual(unnoticed, [])
        self.assertGreater(len([name for name, records in changed if records is not None]), 8)

    def test_aMissingToneIsNoticed(self) -> None:
        """
        A replay with one recorded tone left out does not match.
        """
        records = recordsOf(CORPUS / "plain.jsonl")
        last = [record for record in records if record.get("tone", {}).get("chi") != "finish"]
        self.assertEqual(len(Replay(last).run()), 1)


def _testOf(path: Path) -> Callable[[CorpusTests], None]:
    def test(self: CorpusTests) -> None:
        self.assertEqual(Replay(recordsOf(path)).run(), [])

    test.__doc__ = f"What was recorded in {path.name} comes again."
    return test


for _path in paths():
    setattr(CorpusTests, f"test_{_path.stem}", _testOf(_path))

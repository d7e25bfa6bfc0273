"""
Tests for L{openai_server.admin.doctor} and L{openai_server.admin.daemonchecks}.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import openai_server
from openai_server.admin import daemonchecks, doctor
from openai_server.admin.program import run
from openai_server.wire.tones import PROTO_VERSION
from tests.store.support import NOW, PostgreSQL, SQLiteFile
from tests.support import SyncCase

#: When everything is installed, for certain.
LATER = 4_000_000_000.0


class Answering:
    """
    A program that says the same to whoever connects, once, and waits then.

    @ivar heard: what it was told.
    """

    def __init__(self, listening: socket.socket, said: bytes, pause: float = 0.0) -> None:
        """
        @param pause: seconds between two bytes of it; 0 for all at once.
        """
        self._pause = pause
        self.heard = b""
        self._listening = listening
        self._said = said
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    connection.settimeout(20)
                    self._say(connection)
                    while received := connection.recv(4096):
                        self.heard += received
                        if b"\r\n\r\n" in self.heard:
                            break
        except OSError:
            return

    def _say(self, connection: socket.socket) -> None:
        if not self._pause:
            connection.sendall(self._said)
            return
        for place in range(len(self._said)):
            connection.sendall(self._said[place : place + 1])
            select.select([self._listening], [], [], self._pause)

    def stop(self) -> None:
        """
        Listen no more.
        """
        if self._listening.fileno() < 0:
            return
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._listening.close()


class DoctorCase(SyncCase):
    """
    A machine with what a server needs, all of it in one folder.
    """

    def setUp(self) -> None:
        super().setUp()
        # Short, since it holds the path of a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="openai-server-doctor-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.proc = self.folder / "proc"
        self.proc.mkdir()
        self.patch(doctor, "daemonFindings", lambda *said: daemonchecks.daemonFindings(*said, self.proc))
        self.environ = {
            "HOME": str(self.folder),
            "OPENAI_SERVER_PORT": "0",
            "OPENAI_SERVER_STORE": "memory:",
            "OPENAI_SERVER_REGISTRY_FILE": str(self.folder / "bees.json"),
            "HUM_THRUM_SOCK": str(self.folder / "thrum.sock"),
        }
        worker = {"name": "worker", "models": ["claude-x"], "hid": "fbee_1"}
        (self.folder / "bees.json").write_text(json.dumps({"c1": worker, "c2": {"name": "other"}}))

    def daemon(self, said: bytes | None = None, pause: float = 0.0) -> Answering:
        """
        Let a daemon be there, which says this first, as slowly as this.
        """
        breath = {"chi": "breath", "from": "daemon", "protoVersion": PROTO_VERSION}
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.folder / "thrum.sock"))
        listening.listen()
        usual = json.dumps(breath).encode() + b"\n"
        answering = Answering(listening, usual if said is None else said, pause)
        self.addCleanup(answering.stop)
        return answering

    def examined(self, *options: str, now: float = LATER, **settings: str) -> dict[str, list[str]]:
        """
        The findings by what they are of, each with C{ok} or C{WRONG} in front.
        """
        environ = self.environ | {f"OPENAI_SERVER_{name}": value for name, value in settings.items()}
        out, err = io.StringIO(), io.StringIO()
        code = run([*options, "doctor"], environ, out, err, now)
        found: dict[str, list[str]] = {}
        for line in out.getvalue().splitlines():
            how, _, rest = line.partition(" ")
            what, _, said = rest.strip().partition(": ")
            found.setdefault(what, []).append(f"{how} {said}")
        isWrong = any(each.startswith("WRONG") for lines in found.values() for each in lines)
        self.assertEqual((code, err.getvalue()), (int(isWrong), ""), found)
        return found

    def assertWrong(self, found: dict[str, list[str]], what: str, *words: str) -> None:
        """
        This is wrong, is said in these words, and nothing else is wrong.
        """
        wrong = [name for name, lines in found.items() if any(each.startswith("WRONG") for each in lines)]
        self.assertEqual(wrong, [what], found)
        for each in words:
            self.assertIn(each, "\n".join(found[what]))


class MachineTests(DoctorCase):
    """
    What is not the daemon's.
    """

    def setUp(self) -> None:
        super().setUp()
        self.answering = self.daemon()

    def test_allIsWell(self) -> None:
        """
        Each thing is told of, nothing is made, and nothing is sent to the daemon.
        """
        before = sorted(self.folder.rglob("*"))
        found = self.examined()
        self.assertEqual(
            list(found),
            [
                *("Python", "socket", "daemon", "workers", "tool calls", "port", "key file", "API keys"),
                *("store", "clock", "file limit"),
            ],
        )
        self.assertTrue(all(line.startswith("ok ") for lines in found.values() for line in lines), found)
        self.assertIn(openai_server.__version__, found["Python"][0])
        self.assertEqual(sorted(self.folder.rglob("*")), before)
        self.assertEqual(self.answering.heard, b"")

    def test_settings(self) -> None:
        """
        Those that cannot be used are found too.
        """
        self.assertWrong(self.examined(PORT="many"), "settings", "OPENAI_SERVER_PORT", "many")

    def test_embedded(self) -> None:
        """
        No other daemon is looked for.
        """
        found = self.examined(EMBEDDED="true")
        self.assertEqual(found["daemon"], ["ok is embedded: no other one is asked"])
        self.assertNotIn("socket", found)

    def test_portOfAnother(self) -> None:
        """
        Who has it is told: this server is where it should be.
        """
        for body, isWrong in ((b'{"name":"openai-server","version":"9"}', False), (b"[]", True), (b"", True)):
            listening = socket.create_server(("127.0.0.1", 0))
            port = listening.getsockname()[1]
            head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            answering = Answering(listening, head + body if body else b"")
            if not body:
                self.patch(doctor, "_PATIENCE", 0.2)
            found = self.examined(PORT=str(port))
            answering.stop()
            if isWrong:
                self.assertWrong(found, "port", f"127.0.0.1:{port} is taken by another program")
            else:
                self.assertEqual(found["port"], [f"ok 127.0.0.1:{port} is taken by openai-server 9"])

    def test_port(self) -> None:
        """
        One that is free, and an address that is none of this machine's.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
        self.assertEqual(self.examined(PORT=port)["port"], [f"ok 127.0.0.1:{port} is free"])
        self.patch(doctor, "_listenerAt", lambda host, port: None)
        found = self.examined(PORT=port, HOST="192.0.2.1", API_KEY="a-key-of-the-test")
        self.assertWrong(found, "port", "192.0.2.1", "OPENAI_SERVER_HOST")
        self.assertIn("not looked at", self.examined(LISTEN="tcp:0:interface=127.0.0.1")["port"][0])

    def test_keys(self) -> None:
        """
        A file that others may read; a server that others may use.
        """
        key = self.folder / "key"
        key.write_bytes(bytes(32))
        key.chmod(0o600)
        self.assertEqual(self.examined(KEY_FILE=str(key))["key file"], [f"ok {key}"])
        key.chmod(0o644)
        self.assertWrong(self.examined(KEY_FILE=str(key)), "key file", "others may use it", "chmod 600")
        self.assertWrong(self.examined(INSECURE_NO_AUTH="true"), "API keys", "keys add NAME")
        url = f"sqlite:///{self.folder}/store.db"
        exposed = {"STORE": url, "HOST": "0.0.0.0"}
        self.assertWrong(self.examined(**exposed), "API keys", "no API key is set", "keys add NAME")
        added = run(["--store", url, "keys", "add", "ann"], self.environ, io.StringIO(), io.StringIO(), NOW)
        self.assertEqual(added, 0)
        self.assertEqual(self.examined(**exposed)["API keys"], ["ok 1: each request needs one"])
        new = self.folder / "new" / "key"
        (said,) = self.examined(KEY_FILE=str(new))["key file"]
        self.assertEqual(said, f"ok {new} is made at the first start")
        self.patch(os, "access", lambda path, mode: False)
        self.assertWrong(self.examined(KEY_FILE=str(new)), "key file", f"{self.folder} cannot be written to")
        secret = "a-key-of-the-test"
        self.assertNotIn(secret, repr(self.examined(API_KEY=secret)))

    def test_clock(self) -> None:
        """
        One that was never set.
        """
        self.assertWrong(self.examined(now=0), "clock", "1970-01-01", "time server")

    def test_files(self) -> None:
        """
        A system that lets the server open too few.
        """
        self.patch(resource, "getrlimit", lambda which: (256, 256))
        found = self.examined()
        self.assertWrong(found, "file limit", "256 files", "raise it to 4160")
        self.assertEqual(self.examined(MAX_CONNECTIONS="100")["file limit"], ["ok 256"])

    def test_auditLog(self) -> None:
        """
        One that others may read, and one that cannot be made.
        """
        path = self.folder / "audit.jsonl"
        self.assertIn("is made", self.examined(AUDIT_LOG=str(path))["audit log"][0])
        path.write_bytes(b"")
        path.chmod(0o644)
        self.assertWrong(self.examined(AUDIT_LOG=str(path)), "audit log", f"chmod 600 {path}")
        path.chmod(0o600)
        self.assertEqual(self.examined(AUDIT_LOG=str(path))["audit log"], [f"ok {path}"])
        nowhere = self.folder / "nowhere" / "x"
        self.assertWrong(self.examined(AUDIT_LOG=str(nowhere)), "audit log", "cannot be written to")
        self.assertWrong(self.examined(AUDIT_LOG=str(self.folder)), "audit log", "cannot be written to")

    def test_disk(self) -> None:
        """
        One that is nearly full; a store that is not there yet is none to mend.
        """
        url = f"sqlite:///{self.folder}/new/store.db"
        found = self.examined(STORE=url)
        self.assertEqual(found["store"], [f"ok {self.folder}/new/store.db is made at the first start"])
        usage: Any = shutil.disk_usage(self.folder)
        self.patch(shutil, "disk_usage", lambda folder: usage._replace(free=2**20))
        self.assertWrong(self.examined(STORE=url), "disk", "1 MiB are free", "make room")

    def test_stores(self) -> None:
        """
        One that is damaged, and a server that is not there.
        """
        file = self.folder / "store.db"
        file.write_bytes(b"no database" * 100)
        self.assertWrong(self.examined(STORE=f"sqlite:///{file}"), "store", "corrupt", "moves it aside")
        url = "postgresql+psycopg://user:a-secret@127.0.0.1:1/data"
        found = self.examined(STORE=url)
        self.assertWrong(found, "store", "unreachable", "start the database")
        self.assertNotIn("a-secret", repr(found))


class DaemonTests(DoctorCase):
    """
    The daemon and its workers.
    """

    def test_noDaemon(self) -> None:
        """
        No socket, and one on which nobody listens any more.
        """
        self.assertWrong(self.examined(), "socket", "is missing", "start humd")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.folder / "thrum.sock"))
        listening.close()
        self.assertWrong(self.examined(), "socket", "refused", "start humd")

    def test_owner(self) -> None:
        """
        Whose socket it is.
        """
        self.daemon()
        process = self.proc / str(os.getpid())
        process.mkdir()
        (process / "comm").write_text("humd\n")
        said = f"of humd (process {os.getpid()}, user {os.getuid()})"
        self.assertIn(said, self.examined()["socket"][0])

    def test_version(self) -> None:
        """
        A daemon of another version of the protocol.
        """
        self.daemon(b'{"chi":"breath","protoVersion":"0.1.0"}\n')
        self.assertWrong(self.examined(), "daemon", "speaks version 0.1.0", PROTO_VERSION)

    def test_strangers(self) -> None:
        """
        Somebody else, whatever is said there; nobody is waited for long.
        """
        self.patch(daemonchecks, "_PATIENCE", 0.2)
        for said in (b"220 mail.example\r\n", b'{"chi":"hello"}\n', b"[]\n", b""):
            answering = self.daemon(said)
            self.assertWrong(self.examined(), "daemon", "does not speak as humd does")
            answering.stop()
            (self.folder / "thrum.sock").unlink()

    def test_slowStrangers(self) -> None:
        """
        Nobody is waited for long who says something now and then.
        """
        for module in (doctor, daemonchecks):
            self.patch(module, "_PATIENCE", 0.3)
        self.daemon(b"x" * 10_000, pause=0.05)
        listening = socket.create_server(("127.0.0.1", 0))
        slow = Answering(listening, b"HTTP/1.0 200 OK\r\n" + b"x" * 10_000, pause=0.05)
        self.addCleanup(slow.stop)
        begun = time.monotonic()
        found = self.examined(PORT=str(listening.getsockname()[1]))
        self.assertLess(time.monotonic() - begun, 10)
        self.assertIn("does not speak as humd does", found["daemon"][0])
        self.assertIn("is taken by another program", found["port"][0])

    def test_terminal(self) -> None:
        """
        What others say moves no cursor.
        """
        self.daemon(json.dumps({"chi": "breath", "protoVersion": "\x1b[2J\n"}).encode() + b"\n")
        self.assertIn("version ?[2J? of", self.examined()["daemon"][0])

    def test_noPeers(self) -> None:
        """
        A system that does not say whose a socket is.
        """
        self.daemon()
        self.patch(daemonchecks, "_WHO", None)
        self.assertIn("of another process", self.examined()["socket"][0])

    def test_registryThatIsNoFile(self) -> None:
        """
        Nobody waits for who would write to a FIFO.
        """
        self.daemon()
        (self.folder / "bees.json").unlink()
        os.mkfifo(self.folder / "bees.json")
        self.assertWrong(self.examined(), "workers", "cannot be read")

    def test_workers(self) -> None:
        """
        No registry, no worker, and none for a model that a setting names.
        """
        self.daemon()
        self.assertEqual(self.examined()["workers"], ["ok 1, with the models claude-x"])
        found = self.examined(MODELS="claude-x,claude-y")
        self.assertWrong(found, "workers", "none serves claude-y,")
        (self.folder / "bees.json").write_text("{}")
        self.assertWrong(self.examined(), "workers", "none is connected")
        (self.folder / "bees.json").unlink()
        self.assertWrong(self.examined(), "workers", "cannot be read", "OPENAI_SERVER_REGISTRY_FILE")

    def test_severalDaemons(self) -> None:
        """
        Each is looked at, and the workers of all together.
        """
        self.daemon()
        path, bees = str(self.folder / "thrum.sock"), str(self.folder / "bees.json")
        east = {"name": "east", "socket": path, "registry": bees}
        west = {"name": "west", "socket": str(self.folder / "west.sock")}

        def examined(*upstreams: dict[str, str], **settings: str) -> dict[str, list[str]]:
            file = self.folder / "settings.json"
            file.write_text(json.dumps({"upstreams": upstreams}))
            return self.examined("--config", str(file), **settings)

        found = examined(east)
        self.assertIn(path, found["socket of east"][0])
        self.assertIn("ok speaks version", found["daemon of east"][0])
        self.assertEqual(found["workers"], ["ok 1, with the models claude-x"])
        found = examined(east, west, MODELS="claude-y")
        self.assertWrong(found, "socket of west", "is missing", "start that humd, or correct its socket")
        self.assertEqual(found["workers"], ["ok 1, with the models claude-x"])
        found = examined({"name": "east", "socket": path})
        self.assertEqual(found["workers"], ["ok not known: the setting upstreams names no registry"])
        self.assertWrong(examined(east, MODELS="claude-y"), "workers", "none serves claude-y,")
        (self.folder / "bees.json").unlink()
        self.assertWrong(examined(east), "workers", "cannot be read", "in the setting upstreams")

    def test_timeOut(self) -> None:
        """
        The CLI gives up before this server does, as far as that can be seen.
        """
        self.daemon()
        found = self.examined(PARK_TIMEOUT="200")
        self.assertWrong(found, "tool calls", "after 60 s", "MCP_TOOL_TIMEOUT=210000")
        for number, said in (("1", "MCP_TOOL_TIMEOUT=280000"), ("2", "HOME=/x\0MCP_TOOL_TIMEOUT=250000\0")):
            process = self.proc / number
            process.mkdir()
            (process / "comm").write_text("claude\n")
            (process / "environ").write_text(said)
        found = self.examined(PARK_TIMEOUT="200")
        self.assertIn("ok the claude CLI gives up after 250 s, as its", found["tool calls"][0])
        self.assertWrong(self.examined(PARK_TIMEOUT="260"), "tool calls", "MCP_TOOL_TIMEOUT=270000")


class DoctorStoreContract:
    """
    A store that a server has made.
    """

    def test_store(self) -> None:
        """
        Its size and what is in it.
        """
        out = io.StringIO()
        environ = {"HOME": "/nowhere", "OPENAI_SERVER_EMBEDDED": "true", "OPENAI_SERVER_PORT": "0"}
        run(["--store", self.where, "doctor"], environ, out, io.StringIO(), NOW)
        [line] = [line for line in out.getvalue().splitlines() if " store: " in line]
        self.assertRegex(line, r"^ok     store: .*: [\d,]+ bytes, 0 sessions$")


class FileDoctorTests(DoctorStoreContract, SQLiteFile):
    """
    A file.
    """


class PostgreSQLDoctorTests(DoctorStoreContract, PostgreSQL):
    """
    A server.
    """

    def test_clock(self) -> None:
        """
        The clock of the database's machine is this one's.
        """
        self.patch(doctor, "_CLOCKS_DIFFER", -1)
        out = io.StringIO()
        environ = {"HOME": "/nowhere", "OPENAI_SERVER_EMBEDDED": "true", "OPENAI_SERVER_PORT": "0"}
        self.assertEqual(run(["--store", self.where, "doctor"], environ, out, io.StringIO(), LATER), 1)
        self.assertIn("WRONG  clock: that of the database's machine differs by ", out.getvalue())
        self.assertRegex(out.getvalue(), r"differs by -?0 s")


class ProgramTests(SyncCase):
    """
    The program as it is run.
    """

    def test_module(self) -> None:
        """
        It ends with 1 where something is wrong.
        """
        environ = {"HOME": "/nowhere", "HUM_THRUM_SOCK": "/nowhere/thrum.sock", "OPENAI_SERVER_PORT": "0"}
        done = subprocess.run(
            [sys.executable, "-m", "openai_server.admin", "doctor"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn("WRONG  socket: the socket is missing: /nowhere/thrum.sock; start humd", done.stdout)

"""
Tests for L{openai_server.admin.installing} and L{openai_server.admin.units}.
"""

from __future__ import annotations

import getpass
import io
import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

from openai_server.admin.installing import (
    Installation,
    InstallError,
    ServiceKind,
    install,
    installationFor,
    removalFor,
    run,
    uninstall,
)
from openai_server.admin.program import run as runProgram
from openai_server.config import Configuration
from tests.support import SyncCase

KEY = Configuration(apiKey="secret-key")


class InstallingTests(SyncCase):
    """
    Files and commands.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute() / "a home, 100%"
        self.environ = {"HOME": str(self.home), "HUM_THRUM_SOCK": "/run/hum $1.sock"}
        self.ran: list[str] = []
        self.code = 0

    def plan(
        self,
        configuration: Configuration = KEY,
        *,
        isSystem: bool = False,
        hasSocket: bool = False,
        user: str | None = None,
        platform: str = "linux",
    ) -> Installation:
        """
        What an installation would do.
        """
        wanted = ServiceKind(isSystem, hasSocket, user, None)
        return installationFor(wanted, configuration, self.environ, platform)

    def commanded(self, command: Sequence[str]) -> int:
        """
        Only note a command.
        """
        self.ran.append(" ".join(command))
        return self.code

    def verify(self, plan: Installation, *options: str) -> None:
        """
        Let systemd judge the files of a plan.
        """
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        for path, text in plan.files.items():
            (folder / path.name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", *options, "verify", *(str(folder / path.name) for path in plan.files)],
            env={**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ours = [line for line in done.stderr.splitlines() if "openai-server" in line]
        self.assertEqual((done.returncode, ours), (0, []), done.stderr)

    def test_way(self) -> None:
        """
        A user's service is written, started, stopped and removed.
        """
        plan = self.plan()
        lines = list(install(plan, True, self.commanded))
        path = self.home / ".config/systemd/user/openai-server.service"
        self.assertEqual(lines[0], f"wrote {path}")
        self.assertEqual(
            self.ran,
            ["systemctl --user daemon-reload", "systemctl --user enable --now openai-server.service"],
        )
        self.assertEqual(path.read_text(), plan.files[path])
        # It may be installed once more.
        list(install(plan, False, self.commanded))
        self.ran = []
        lines = list(uninstall(removalFor(False, self.environ, "linux"), self.commanded))
        self.assertEqual(lines[-1], f"removed {path}")
        self.assertEqual(
            self.ran,
            ["systemctl --user disable --now openai-server.service", "systemctl --user daemon-reload"],
        )
        self.assertFalse(path.exists())

    def test_verified(self) -> None:
        """
        (P24) Systemd takes the units of a user and of the machine, with a socket
        and without.
        """
        for hasSocket in (False, True):
            self.verify(self.plan(hasSocket=hasSocket), "--user")
            plan = self.plan(isSystem=True, hasSocket=hasSocket, user=getpass.getuser())
            self.verify(plan, "--man=no")

    def test_service(self) -> None:
        """
        What a unit says.
        """
        ((path, text),) = self.plan(Configuration(drainTimeout=5)).files.items()
        for line in (
            "Type=notify",
            "NoNewPrivileges=yes",
            "ProtectSystem=full",
            "MemoryMax=2G",
            "TimeoutStopSec=15",
            'Environment="HUM_THRUM_SOCK=/run/hum $1.sock"',
            f"EnvironmentFile=-{str(self.home).replace('%', '%%')}/.config/hum/hives/openai-server.env",
            "WantedBy=default.target",
        ):
            self.assertIn(line, text.splitlines())
        self.assertIn("openai-server", text)
        self.assertEqual(path.name, "openai-server.service")

    def test_noSecret(self) -> None:
        """
        The API key is in no file that is written.
        """
        for platform in ("linux", "darwin"):
            for text in self.plan(platform=platform).files.values():
                self.assertNotIn("secret-key", text)

    def test_socket(self) -> None:
        """
        Systemd listens where the settings say; without a key it must not.
        """
        plan = self.plan(Configuration(apiKey="k", host="::1", port=99), hasSocket=True)
        texts = {path.name: text for path, text in plan.files.items()}
        self.assertIn("ListenStream=[::1]:99", texts["openai-server.socket"].splitlines())
        self.assertIn("--listen systemd:domain=INET:index=0", texts["openai-server.service"])
        self.assertEqual(plan.starting[1][-1], "openai-server.socket")
        with self.assertRaisesRegex(InstallError, "--socket needs an API key"):
            self.plan(Configuration(), hasSocket=True)
        list(install(plan, False, self.commanded))
        lines = list(uninstall(removalFor(False, self.environ, "linux"), self.commanded))
        self.assertEqual(
            self.ran[0], "systemctl --user disable --now openai-server.socket openai-server.service"
        )
        self.assertEqual(len(lines), 3)

    def test_system(self) -> None:
        """
        A service of the machine runs as its user, with that user's files.
        """
        user = getpass.getuser()
        plan = self.plan(isSystem=True, user=user)
        ((path, text),) = plan.files.items()
        self.assertEqual(str(path), "/etc/systemd/system/openai-server.service")
        self.assertIn(f"User={user}", text.splitlines())
        self.assertIn(f"Environment=XDG_RUNTIME_DIR=/run/user/{os.getuid()}", text.splitlines())
        self.assertNotIn(str(self.home), text)
        self.assertEqual(plan.starting[0], ["systemctl", "daemon-reload"])
        with self.assertRaisesRegex(InstallError, "there is no user 'nobody-here'"):
            self.plan(isSystem=True, user="nobody-here")

    def test_launchd(self) -> None:
        """
        A property list, on macOS.
        """
        plan = self.plan(platform="darwin")
        ((path, text),) = plan.files.items()
        self.assertEqual(path, self.home / "Library/LaunchAgents/hum.openai-server.plist")
        job = plistlib.loads(text.encode())
        self.assertEqual(job["Label"], "hum.openai-server")
        self.assertEqual(job["ProgramArguments"][1:], ["--nodaemon", "--pidfile=", "openai-server"])
        self.assertEqual(job["EnvironmentVariables"], {"HUM_THRUM_SOCK": "/run/hum $1.sock"})
        self.assertEqual(job["ExitTimeOut"], 40)
        list(install(plan, True, self.commanded))
        self.assertEqual(self.ran, [f"launchctl bootstrap gui/{os.getuid()} {path}"])
        list(uninstall(removalFor(False, self.environ, "darwin"), self.commanded))
        self.assertEqual(self.ran[1:], [f"launchctl bootout gui/{os.getuid()}/hum.openai-server"])
        self.assertFalse(path.exists())
        with self.assertRaisesRegex(InstallError, "--socket is systemd's"):
            self.plan(platform="darwin", hasSocket=True)

    def test_foreignFile(self) -> None:
        """
        A file that somebody else has written stays as it is.
        """
        path = self.home / ".config/systemd/user/openai-server.service"
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        with self.assertRaisesRegex(InstallError, "is not of this program's making"):
            list(install(self.plan(), True, self.commanded))
        with self.assertRaisesRegex(InstallError, "is not of this program's making"):
            list(uninstall(removalFor(False, self.environ, "linux"), self.commanded))
        self.assertEqual((path.read_text(), self.ran), ("mine", []))

    def test_afterASocket(self) -> None:
        """
        Where systemd listens already, the server cannot.
        """
        list(install(self.plan(hasSocket=True), True, self.commanded))
        with self.assertRaisesRegex(InstallError, "with --socket: uninstall that first"):
            list(install(self.plan(), True, self.commanded))
        list(uninstall(removalFor(False, self.environ, "linux"), self.commanded))
        list(install(self.plan(), True, self.commanded))

    def test_unfit(self) -> None:
        """
        What would be further lines of a file, or cannot be written, is refused.
        """
        for odd in ("/run/x\nExecStartPre=/bin/false", "/run/\udcff", "/run/\x1b"):
            self.environ["HUM_THRUM_SOCK"] = odd
            for platform in ("linux", "darwin"):
                with self.assertRaisesRegex(InstallError, "cannot stand in a service's file"):
                    self.plan(platform=platform)
        self.environ["HUM_THRUM_SOCK"] = "/run/x"
        plan = installationFor(ServiceKind(False, False, None, "a\tpath \u00a0.toml"), KEY, self.environ)
        self.verify(plan, "--user")
        wanted = ServiceKind(False, False, None, "x\nUser=root")
        with self.assertRaisesRegex(InstallError, "cannot stand"):
            installationFor(wanted, KEY, self.environ)

    def test_fails(self) -> None:
        """
        A command that fails, a folder that cannot be written, nothing to remove.
        """
        with self.assertRaisesRegex(InstallError, "nothing is installed"):
            list(uninstall(removalFor(False, self.environ, "linux"), self.commanded))
        self.code = 1
        with self.assertRaisesRegex(InstallError, "^systemctl --user daemon-reload failed"):
            list(install(self.plan(), True, self.commanded))
        lines = list(uninstall(removalFor(False, self.environ, "linux"), self.commanded))
        self.assertRegex(lines[0], "^tried systemctl")
        self.home.rmdir() if not any(self.home.iterdir()) else shutil.rmtree(self.home)
        self.home.write_text("a file")
        with self.assertRaisesRegex(InstallError, "cannot write .*: Not a directory"):
            list(install(self.plan(), True, self.commanded))
        self.assertEqual(run(["/nowhere/at/all"]), 127)
        self.assertEqual(run([sys.executable, "-c", "raise SystemExit(3)"]), 3)

    def test_commandLine(self) -> None:
        """
        What it says, and what it does not understand.
        """
        out, err = io.StringIO(), io.StringIO()
        code = runProgram(["install", "--no-start"], self.environ, out, err, 0.0)
        lines = out.getvalue().splitlines()
        self.assertEqual((code, err.getvalue()), (0, ""))
        self.assertEqual(lines[-1], "to undo it: python -m openai_server.admin uninstall")
        self.assertEqual(runProgram(["install", "--user", "me"], self.environ, out, err, 0.0), 2)
        self.assertEqual(runProgram(["install", "--socket"], self.environ, out, err, 0.0), 1)
        self.assertIn("admin: --user goes with --system\nadmin: --socket needs an API key", err.getvalue())

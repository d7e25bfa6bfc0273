"""
The Responses API with the official Node package, over a real socket. It is
there after C{npm install} in C{tests/node}.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from unittest import skipUnless

from tests.serving import PATIENCE, ServingCase, inThread

FOLDER = Path(__file__).parent / "node"
TEXT = "one two three"
NODE = shutil.which("node")


@skipUnless(NODE and (FOLDER / "node_modules/openai").is_dir(), "needs node, and npm install in tests/node")
class NodeTests(ServingCase):
    """
    What the package's helpers accept: they throw where an event is missing,
    comes twice, or is of a kind that they do not know.
    """

    @inThread
    def test_responses(self) -> None:
        """
        Streamed, resumed, gone on with after a call, and in the background.
        """
        done = subprocess.run(
            [NODE or "", str(FOLDER / "responses.mjs"), self.serving.url],
            capture_output=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        seen = json.loads(done.stdout)
        kinds = [kind.removeprefix("response.") for kind in seen["kinds"]]
        self.assertEqual(kinds[:3], ["created", "in_progress", "output_item.added"])
        self.assertEqual(kinds[-1], "completed")
        self.assertEqual((seen["text"], seen["status"], seen["again"]), (TEXT, "completed", TEXT))
        self.assertEqual(seen["rest"], list(range(5, len(kinds))))
        self.assertEqual((seen["told"], seen["queued"], seen["later"]), ("seen it", "queued", "later"))

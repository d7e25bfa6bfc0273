# -*- test-case-name: tests.admin.test_program -*-
"""
C{python -m openai_server.admin}: see L{openai_server.admin}.
"""

from __future__ import annotations

import os
import sys
import time

from openai_server.admin.program import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ, sys.stdout, sys.stderr, time.time()))

# -*- test-case-name: tests.admin.test_program -*-
"""
Looks into the store that the settings name, and forgets what is in it::

    python -m openai_server.admin state
    python -m openai_server.admin forget --session SID | --response ID | --before 2026-01-31
    python -m openai_server.admin vacuum
    python -m openai_server.admin export > all.jsonl
    python -m openai_server.admin doctor
    python -m openai_server.admin usage --by day,account,model [--csv]

Servers may run meanwhile. What one of them has in its memory it goes on with.
"""

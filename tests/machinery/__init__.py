"""
What tests plug into the embedded daemon: scripts, strange models, faults.
"""

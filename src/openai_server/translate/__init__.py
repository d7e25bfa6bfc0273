"""
Where OpenAI's language and the daemon's meet: pure functions and small state
machines.
"""

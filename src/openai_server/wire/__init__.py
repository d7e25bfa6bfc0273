"""
The daemon's language: thrum's tones and ids.

No Twisted and nothing of OpenAI's in here.
"""

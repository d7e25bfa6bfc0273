"""
OpenAI's language: requests and answers as structs, and the bytes of an event
stream.

No Twisted and nothing of the daemon's in here.
"""

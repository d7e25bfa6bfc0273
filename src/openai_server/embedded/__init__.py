"""
A daemon in this process: the server side of thrum, as the real one behaves.
"""

"""
I/O to the daemon: its socket, its registry file, the turns in flight.
"""

"""
What the performance figures in the README come from: C{python -m benchmarks}.

A daemon that costs little, the server, and a load that checks every byte, in
three processes; beside the server, in the same run, a relay without any
features. Times alone say little on another machine: the ratios do.

  - C{question}: what the load asks the daemon for, and what must come back.
  - C{daemon}: the daemon.
  - C{relay}: the relay.
  - C{load}: an HTTP client on plain sockets.
  - C{processes}: starting, pinning, measuring, stopping.
  - C{scenarios}: what is done, and the figures of it.
  - C{figures}: medians, ratios, the table. Pure.
"""

"""
Which sid a request gets, one live turn a sid, parked tool calls, turn slots,
retries.
"""

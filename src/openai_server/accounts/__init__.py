"""
Who asks, by which key, and how much of what they may.
"""

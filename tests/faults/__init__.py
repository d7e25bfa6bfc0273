"""
The whole server when something goes wrong: what its clients see and how their
requests end.
"""

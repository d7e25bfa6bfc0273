"""
HTTP: the only room that imports klein.
"""

"""
What lasts beyond a request, behind one interface.
"""

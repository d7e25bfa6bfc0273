"""
The page: static files, and one stream of what the server does.
"""

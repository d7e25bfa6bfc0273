"""
The page in a real browser: chromium without a window, driven by selenium, with
the server in the test's process.
"""

"""
Tests, laid out as the package is.
"""

from hypothesis import HealthCheck, settings

# How long examples take says something of the machine, and nothing of this server.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

"""
Tests for L{openai_server.telemetry}.
"""

"""
Tests for L{openai_server.accounts}.
"""

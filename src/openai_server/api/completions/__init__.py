"""
Legacy completions: OpenAI's C{/v1/completions}.
"""

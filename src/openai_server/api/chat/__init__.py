"""
Chat completions: OpenAI's C{/v1/chat/completions}.
"""

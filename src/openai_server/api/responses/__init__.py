"""
The Responses API: OpenAI's C{/v1/responses}.
"""

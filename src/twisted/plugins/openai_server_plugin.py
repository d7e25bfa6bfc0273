"""
Makes C{twistd openai-server} known.
"""

from twisted.application.service import ServiceMaker

openaiServer = ServiceMaker(
    "openai-server", "openai_server.tap", "OpenAI's HTTP API in front of humd", "openai-server"
)

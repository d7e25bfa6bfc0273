"""
A daemon in this process: the server side of thrum, as the real one behaves.

L{openai_server.embedded.daemon.EmbeddedDaemon} is the whole of it. Behind it
stands a worker that behaves like humd's claude-cli worker, with toy models in
place of a model.
"""

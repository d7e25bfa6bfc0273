"""
A daemon in this process: the server side of thrum, as the real one behaves.

L{openai_server.embedded.daemon.EmbeddedDaemon} is the whole of it, for
C{--embedded} and for the tests. Behind it stands a worker that behaves like
humd's claude-cli worker, with models that follow a script in place of a model.
"""

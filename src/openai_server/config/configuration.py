# -*- test-case-name: tests.test_config -*-
"""
The values of all settings, as the rest of the server reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from openai_server.config.exposure import descriptionFromAddress, withSocketMode


@dataclass(frozen=True)
class Configuration:
    """
    All settings. The fields are spelled as the keys of the configuration file;
    L{openai_server.config.settings.SETTINGS} explains them. Durations are in
    seconds, sizes in bytes, paths absolute.
    """

    port: int = 14620
    host: str = "127.0.0.1"
    apiKey: str | None = None
    thrumSocket: str | None = None
    firstLifeTimeout: float = 370
    stallTimeout: float = 900
    turnTimeout: float = 3600
    maxTurns: int = 8
    cwd: str | None = None
    allowedTools: tuple[str, ...] = ()
    disallowedTools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    defaultModel: str | None = None
    allowedHosts: tuple[str, ...] = ()
    corsOrigins: tuple[str, ...] = ()
    strict: bool = False
    reasoningField: str = "reasoning_content"
    attachments: str = "both"
    bodyLimit: int = 20 * 1024 * 1024
    keepAlive: str = "chunk"
    keepAliveInterval: float = 15
    headersHold: float = 10
    echoTimeout: float = 10
    handshakeTimeout: float = 5
    heartbeatInterval: float = 15
    drainTimeout: float = 30
    keyFile: str | None = None
    registryFile: str | None = None
    queueLength: int = 32
    queueTimeout: float = 30
    parkTimeout: float = 50
    collectWindow: float = 0.02
    drainSlot: float = 30
    retryGrace: float = 2
    userHint: str = "auto"
    continuation: bool = True
    registerTools: bool = True
    workerTools: bool = False
    listen: tuple[str, ...] = ()
    insecureNoAuth: bool = False
    embedded: bool = False

    @property
    def descriptions(self) -> tuple[str, ...]:
        """
        Where to listen, as Twisted's endpoint strings.
        """
        return tuple(map(withSocketMode, self.listen)) or (descriptionFromAddress(self.host, self.port),)

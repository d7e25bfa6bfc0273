# -*- test-case-name: tests.web.test_models -*-
"""
The models that this server offers: those of the configuration, and those that
connected workers advertise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openai_server.daemon.interfaces import Registry


class OfferedModels:
    """
    Configured models first, then the workers', each id once.

    The list only informs: the daemon is asked whatever the id is, since
    workers elsewhere in the mesh need not be in the registry file.
    """

    def __init__(self, configured: Sequence[str], registry: Registry, now: Callable[[], float]) -> None:
        self._configured = tuple(configured)
        self._registry = registry
        self._start = int(now())

    def change(self, configured: Sequence[str]) -> None:
        """
        Have others configured from now on.
        """
        self._configured = tuple(configured)

    def ids(self) -> Sequence[str]:
        """
        The ids in a stable order.
        """
        return tuple(dict.fromkeys((*self._configured, *self._registry.models())))

    def only(self) -> str | None:
        """
        The one model that there is; None when there are several, or none.
        """
        ids = self.ids()
        return ids[0] if len(ids) == 1 else None

    def created(self, model: str) -> int:
        """
        The start of this process in seconds since the epoch: nothing better
        is known of a model.
        """
        return self._start

    def isKnown(self, model: str) -> bool:
        """
        The model is configured, or a worker has served it since the start:
        its absence is passing.
        """
        return model in self._configured or self._registry.hasSeen(model)

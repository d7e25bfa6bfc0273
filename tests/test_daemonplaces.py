"""
Where the daemons are that a server asks.
"""

from __future__ import annotations

from openai_server.config import Configuration, UpstreamSettings
from openai_server.daemonplaces import placesFrom
from tests.support import SyncCase

ENVIRON = {"HOME": "/home/u", "HUM_THRUM_SOCK": "/run/one.sock", "XDG_STATE_HOME": "/state"}


class PlacesTests(SyncCase):
    def test_theOne(self) -> None:
        """
        As the environment and the settings say, and without a name.
        """
        (place,) = placesFrom(Configuration(), ENVIRON)
        self.assertEqual((place.name, place.socket, place.weight), ("", "/run/one.sock", 1.0))
        self.assertEqual(place.registry, "/state/hum/bees.json")
        (place,) = placesFrom(Configuration(thrumSocket="/s", registryFile="/r"), ENVIRON)
        self.assertEqual((place.socket, place.registry), ("/s", "/r"))

    def test_several(self) -> None:
        """
        They are in place of it.
        """
        several = (UpstreamSettings(name="a", socket="/a"), UpstreamSettings(name="b", socket="/b"))
        self.assertEqual(placesFrom(Configuration(thrumSocket="/s", upstreams=several), ENVIRON), several)

"""
Tests for L{openai_server.accounts.keyring}.
"""

from __future__ import annotations

import hmac

from msgspec import structs

from openai_server.accounts import keyring
from openai_server.accounts.account import NO_LIMITS, Account, AccountLimits
from openai_server.accounts.keyring import ANONYMOUS, KeyRing, settingsAccount
from openai_server.errors import APIError
from openai_server.store.savedkeys import SavedKey
from tests.accounts.support import NOW, savedKey
from tests.support import SyncCase


class KeyRingTests(SyncCase):
    """
    Whose a key is.
    """

    def setUp(self) -> None:
        super().setUp()
        self.now = NOW

    def ring(self, *keys: SavedKey, apiKey: str | None = None, isRequired: bool = False) -> KeyRing:
        """
        A ring with these.
        """
        ring = KeyRing(b"secret", lambda: self.now, apiKey, isRequired=isRequired)
        ring.replace(keys)
        return ring

    def refusal(self, ring: KeyRing, key: bytes) -> str:
        """
        What is said of a key that is not let in.
        """
        error = self.assertRaises(APIError, ring.accountOf, key)
        self.assertEqual((error.kind.status, error.kind.code), (401, "invalid_api_key"))
        self.assertEqual(error.headers, {"www-authenticate": "Bearer"})
        return str(error.message)

    def test_nobodyNeedsOne(self) -> None:
        """
        As long as there is none, whatever is sent.
        """
        ring = self.ring()
        self.assertIs(ring.accountOf(b"EMPTY"), ANONYMOUS)
        self.assertFalse(ring.isRequired)

    def test_requiredWithoutAny(self) -> None:
        """
        Where it is said so, nobody is let in.
        """
        self.assertIn("missing or wrong", self.refusal(self.ring(isRequired=True), b""))

    def test_stored(self) -> None:
        """
        An account has what its key says.
        """
        ring = self.ring(
            savedKey("a", models="m,n/o", rpm=1, tpm=2, concurrent=3, tokensPerDay=4, tokensPerMonth=5),
            savedKey("b", "bob", account="team", isAdmin=True),
        )
        limits = AccountLimits(1, 2, 3, 4, 5)
        self.assertEqual(
            ring.accountOf(b"a"), Account("alice", "alice", frozenset({"m", "n/o"}), limits, False)
        )
        bob = ring.accountOf(b"b")
        self.assertEqual(bob, Account("team", "team", None, NO_LIMITS, True))
        self.assertEqual([bob.mayUse("x"), ring.accountOf(b"a").mayUse("m")], [True, True])
        self.assertFalse(ring.accountOf(b"a").mayUse("n"))
        for wrong in (b"", b"A", b"c"):
            self.assertIn("missing or wrong", self.refusal(ring, wrong))

    def test_onceRequired(self) -> None:
        """
        Whoever removes the last key lets nobody in by that.
        """
        ring = self.ring(savedKey("a"))
        ring.replace([])
        self.assertEqual(len(ring), 0)
        self.refusal(ring, b"a")
        self.refusal(ring, b"")

    def test_replaced(self) -> None:
        """
        Only what has changed is made anew.
        """
        same, other = savedKey("a"), savedKey("b", "bob")
        ring = self.ring(same, other)
        before = ring.accountOf(b"a")
        ring.replace([savedKey("a"), savedKey("b", "bob", rpm=3)])
        self.assertIs(ring.accountOf(b"a"), before)
        self.assertEqual(ring.accountOf(b"b").limits.rpm, 3)

    def test_ends(self) -> None:
        """
        Whoever has the key is told why it is good no longer.
        """
        ring = self.ring(
            savedKey("sk-hum-expires-x", expiresAt=NOW + 10, replacedUntil=NOW + 20),
            savedKey("sk-hum-replaced-x", expiresAt=NOW + 20, replacedUntil=NOW + 10),
            savedKey("sk-hum-disabled-x", isDisabled=True, expiresAt=NOW - 1),
        )
        said = self.refusal(ring, b"sk-hum-disabled-x")
        self.assertEqual(said, "This API key (sk-hum-disa...) is disabled.")
        self.now = NOW + 9.9
        for key in (b"sk-hum-expires-x", b"sk-hum-replaced-x"):
            self.assertEqual(ring.accountOf(key).name, "alice")
        self.now = NOW + 10
        said = self.refusal(ring, b"sk-hum-expires-x")
        self.assertEqual(said, "This API key (sk-hum-expi...) has expired.")
        self.assertEqual(
            self.refusal(ring, b"sk-hum-replaced-x"),
            "This API key (sk-hum-repl...) was replaced by another one.",
        )

    def test_isHeld(self) -> None:
        """
        An account that was let in is known to be so no more when its key ends,
        or says something else of it; or when a key is needed at last.
        """
        key = savedKey("sk-a", isAdmin=True, expiresAt=NOW + 10)
        ring = self.ring(key)
        account = ring.accountOf(b"sk-a")
        self.assertTrue(ring.isHeld(account))
        self.assertFalse(ring.isHeld(ANONYMOUS))
        self.assertEqual(ring.accounts, {"alice": account})
        self.now += 10
        self.assertFalse(ring.isHeld(account))
        self.now -= 10
        ring.replace([structs.replace(key, isAdmin=False)])
        self.assertFalse(ring.isHeld(account))
        self.assertTrue(self.ring().isHeld(ANONYMOUS))

    def test_isHeldByOneKey(self) -> None:
        """
        Another key of the same account does not hold it for whoever had one
        that is gone; one that is replaced holds it as long as it is good.
        """
        key, other = savedKey("sk-a", isAdmin=True), savedKey("sk-b", isAdmin=True)
        ring = self.ring(key, other, apiKey="own")
        account, kept = ring.accountOf(b"sk-a"), ring.accountOf(b"sk-b")
        self.assertEqual(account, kept)
        ring.replace([structs.replace(key, replacedUntil=NOW + 10), other])
        self.assertTrue(ring.isHeld(account))
        self.now += 10
        self.assertEqual([ring.isHeld(account), ring.isHeld(kept)], [False, True])
        own = ring.accountOf(b"own")
        ring.changeKey("own")
        self.assertTrue(ring.isHeld(own))

    def test_settings(self) -> None:
        """
        The key of the settings has no limits, may see all, and is the
        account's that people call default.
        """
        ring = self.ring(savedKey("a"), apiKey="sk-own")
        account = ring.accountOf(b"sk-own")
        self.assertEqual((account.label, account.limits, account.isAdmin), ("default", NO_LIMITS, True))
        self.assertEqual([ring.labelOf(account.name), ring.labelOf("alice")], ["default", "alice"])
        ring.replace([savedKey("b")])
        self.assertEqual(ring.accountOf(b"sk-own"), account)
        self.assertEqual(len(ring), 2)

    def test_changedSettings(self) -> None:
        """
        Another key in the settings is let in in place of the first one, beside
        those of the store.
        """
        ring = self.ring(savedKey("a"), apiKey="one")
        first = ring.accountOf(b"one")
        ring.changeKey("two")
        self.refusal(ring, b"one")
        self.assertNotEqual(ring.accountOf(b"two").name, first.name)
        self.assertEqual(ring.accountOf(b"a").name, "alice")
        ring.changeKey("one")
        self.assertEqual(ring.accountOf(b"one"), first)

    def test_nameOfTheSettingsAccount(self) -> None:
        """
        The same for the same key and secret, another for another, and nothing
        of the key in it. What is kept is kept under it: it must never change.
        """
        names = {settingsAccount(key, secret).name for key in ("a", "b") for secret in (b"1", b"2")}
        self.assertEqual(len(names), 4)
        self.assertEqual(settingsAccount("sk-canary-key", b"secret").name, "6ddc516036a3ac8c")

    def test_sameWorkForAnyWrongKey(self) -> None:
        """
        One comparison, of two whole digests, whatever was sent and however
        much of it is right.
        """
        compared: list[tuple[bytes, bytes]] = []
        original = hmac.compare_digest

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return original(one, other)

        self.patch(keyring.hmac, "compare_digest", compare)
        ring = self.ring(savedKey("sk-hum-right"), apiKey="sk-own")
        for wrong in (b"", b"sk-hum-righ", b"sk-hum-wrong", b"x" * 5000):
            self.refusal(ring, wrong)
            self.assertEqual([(len(one), len(other)) for one, other in compared], [(32, 32)])
            compared.clear()

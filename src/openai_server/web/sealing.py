# -*- test-case-name: tests.web.test_sealing -*-
"""
Texts that clients keep for this server: sealed, so that nobody else can read
or make one, and only the account that was given it can bring it back.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: What each token begins with: whose it is, and of which make.
PREFIX: Final = "hum1."
_PURPOSE: Final = b"openai-server: texts kept by clients, 1"
#: Bytes, as the algorithm wants them.
_KEY_SIZE: Final = 32
_NONCE_SIZE: Final = 12


class SealingKey:
    """
    What the tokens of all accounts are sealed with.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        """
        @param secret: random bytes, 32 at least, which may have other uses too;
            other bytes cannot open what was sealed with these. None for some of
            this process's own.
        """
        derivation = HKDF(SHA256(), _KEY_SIZE, None, _PURPOSE)
        self._cipher = AESGCM(derivation.derive(secret or secrets.token_bytes(_KEY_SIZE)))

    def sealOf(self, account: str) -> AccountSeal:
        """
        Return what seals and opens an account's tokens.
        """
        return AccountSeal(self._cipher, account.encode())


class AccountSeal:
    """
    See L{openai_server.api.keeping.Seal}.
    """

    __slots__ = ("_account", "_cipher")

    def __init__(self, cipher: AESGCM, account: bytes) -> None:
        self._cipher = cipher
        self._account = account

    def seal(self, text: str) -> str:
        """
        Return a token that only this server can read.
        """
        nonce = secrets.token_bytes(_NONCE_SIZE)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), self._account)
        return PREFIX + urlsafe_b64encode(sealed).decode()

    def open(self, token: str) -> str | None:
        """
        Return the text in a token, None if there is none for this account.
        """
        encoded = token.removeprefix(PREFIX)
        try:
            sealed = urlsafe_b64decode(encoded)
            # Bits and characters that decoding overlooks are no part of a token.
            if PREFIX + urlsafe_b64encode(sealed).decode() != token:
                return None
            opened = self._cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], self._account)
        except (ValueError, InvalidTag):
            return None
        return opened.decode()

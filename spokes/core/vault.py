"""Encrypt ("seal") secrets that must be stored, such as OAuth tokens, and rotate their keys.

A sealed secret is a Fernet token (AES-128-CBC and HMAC-SHA256, of the cryptography package). The newest key seals;
every key opens.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final, Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from spokes.core.errors import SecretUnreadable
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings

_PURPOSE: Final = "sealed secrets"


class Vault:
    """Seals and opens text with a list of keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Use `keys`, the newest first. A key may be any text; the Fernet key is derived from it.

        Raises:
            ValueError: `keys` is empty.
        """
        fernets = [Fernet(urlsafe_b64encode(derive_key(key, _PURPOSE))) for key in keys]
        self._any_key = MultiFernet(fernets)
        self._newest_key = fernets[0]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return a vault with the keys in SECRETS_KEY, or with the master key if SECRETS_KEY is not set."""
        return cls(settings.vault_keys or (load_master_key(settings),))

    def seal(self, text: str) -> bytes:
        """Return `text` encrypted with the newest key; two results are never equal."""
        return self._newest_key.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """Return the decrypted text.

        Raises:
            SecretUnreadable: `sealed` is not sealed, was changed, or its key is not one of ours.
        """
        try:
            return self._any_key.decrypt(sealed).decode()
        except InvalidToken:
            raise SecretUnreadable from None

    def reseal(self, sealed: bytes) -> bytes:
        """Return the same secret, sealed with the newest key.

        Raises:
            SecretUnreadable: as `open`.
        """
        return self.seal(self.open(sealed))

    def can_open(self, sealed: bytes) -> bool:
        """Return whether one of the keys opens `sealed`."""
        try:
            self._any_key.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def uses_newest_key(self, sealed: bytes) -> bool:
        """Return whether the newest key opens `sealed`."""
        try:
            self._newest_key.decrypt(sealed)
        except InvalidToken:
            return False
        return True

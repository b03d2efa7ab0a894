"""Seal secrets that must be kept, such as OAuth tokens. Rule: what leaves here is sealed; keys come from outside.

A seal is a Fernet token (AES-128-CBC and HMAC-SHA256, of the cryptography package). Keys rotate: the first one seals,
every one of them opens.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Final, Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from spokes.core.errors import SecretUnreadable
from spokes.core.masking import derive_key
from spokes.core.settings import Settings

_PURPOSE: Final = "sealed secrets"


class Vault:
    """Seals and opens text under the keys it was made with."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take `keys`, the newest first; each may be any text, as it only serves to derive one.

        Raises:
            ValueError: there is none.
        """
        fernets = [Fernet(urlsafe_b64encode(derive_key(key, _PURPOSE))) for key in keys]
        self._any_key = MultiFernet(fernets)
        self._newest_key = fernets[0]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the vault of a deployment: SECRETS_KEY, or a key derived from AUDIT_KEY where it is not set."""
        return cls(settings.vault_keys or (settings.master_key(),))

    def seal(self, text: str) -> bytes:
        """Return `text` as only the holder of a key can read it; never twice the same."""
        return self._newest_key.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """Return what was sealed.

        Raises:
            SecretUnreadable: it is not sealed, was changed, or its key is not among ours.
        """
        try:
            return self._any_key.decrypt(sealed).decode()
        except InvalidToken:
            raise SecretUnreadable from None

    def reseal(self, sealed: bytes) -> bytes:
        """Return the same secret under the newest key.

        Raises:
            SecretUnreadable: as `open`.
        """
        return self.seal(self.open(sealed))

    def uses_newest_key(self, sealed: bytes) -> bool:
        """Return whether the newest key opens it."""
        try:
            self._newest_key.decrypt(sealed)
        except InvalidToken:
            return False
        return True

"""Seal accounts, sessions and login links with CONSOLE_KEY, so that writing to Redis does not make an administrator.

A sealed value is a Fernet token (AES-128-CBC and HMAC-SHA256). Its key belongs to the place where the value is stored:
a value that was copied to another name, or that was never sealed, does not open.
"""

from base64 import urlsafe_b64encode
from typing import Final, Self

from cryptography.fernet import Fernet, InvalidToken

from spokes.core.masking import derive_key
from spokes.core.settings import Settings

_PURPOSE: Final = "sealed accounts"


class Seals:
    """Seals and opens values by the place where they are stored."""

    def __init__(self, console_key: str) -> None:
        self._master = derive_key(console_key, _PURPOSE).hex()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return an instance with CONSOLE_KEY."""
        return cls(settings.console_key.get_secret_value())

    def seal(self, place: str, value: bytes) -> bytes:
        """Return `value` encrypted and authenticated for `place`."""
        return self._fernet(place).encrypt(value)

    def open(self, place: str, sealed: bytes) -> bytes:
        """Return the value that was sealed for `place`.

        Raises:
            ValueError: it was not, or with another CONSOLE_KEY.
        """
        try:
            return self._fernet(place).decrypt(sealed)
        except InvalidToken:
            raise ValueError("not sealed for this place with CONSOLE_KEY") from None

    def _fernet(self, place: str) -> Fernet:
        return Fernet(urlsafe_b64encode(derive_key(self._master, place)))

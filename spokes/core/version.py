"""The running version; the same as in pyproject.toml, as a test checks."""

from typing import Final

VERSION: Final = "2026.11.0"

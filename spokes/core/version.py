"""The version that runs. Rule: the same as in pyproject.toml; a test compares them."""

from typing import Final

VERSION: Final = "2026.11.0"

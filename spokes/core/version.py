"""The running version; the same as in pyproject.toml, as a test checks."""

from typing import Final

VERSION: Final = "1.0.0"

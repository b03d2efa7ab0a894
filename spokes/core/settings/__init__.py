"""Every environment variable, parsed once: `Settings.from_env` returns all values, or raises with all problems.

`fields` declares the variables; the other modules parse one kind of value each.
"""

from spokes.core.settings.field_types import RoleName
from spokes.core.settings.fields import Settings
from spokes.core.settings.web_urls import RECEIVER_PATH, is_confidential_url

__all__ = ["RECEIVER_PATH", "RoleName", "Settings", "is_confidential_url"]

"""The settings of a process that loads the handlers: all faults of the deployment and of the handlers at once."""

import os
from collections.abc import Iterable

from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.routing import DEFAULT_PACKAGE, load_router


def read_settings(*, required: Iterable[str] = ()) -> Settings:
    """Return the settings of this process; `required` are variables that it needs.

    Raises:
        ConfigurationError: a setting is missing or invalid; faults of the handlers and of their settings are added.
    """
    try:
        return Settings.from_env(required=required)
    except ConfigurationError as error:
        problems = error.problems
    try:
        load_router(os.environ.get("HANDLERS") or DEFAULT_PACKAGE)
    except ConfigurationError as error:
        problems = (*problems, *error.problems)
    raise ConfigurationError(problems)

"""`HandlerSettings`: settings of handlers from the environment, read and checked when the handlers are loaded."""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from spokes.core.errors import ConfigurationError
from spokes.core.masking import add_secrets
from spokes.core.settings.sentences import invalid_setting
from spokes.core.settings.strength import is_distinctive

_faults: ContextVar[list[str] | None] = ContextVar("handler_settings_faults", default=None)  # of the loaded package
_MASK: Final = "***"
_SHORTEST_SECRET: Final = 6  # characters; a shorter one, or a number, would be found in names and counts of our own


class HandlerSettings(BaseSettings):
    """Settings of handlers: each field is an environment variable, `erp_key: SecretStr` is ERP_KEY.

    Define a class and make one instance in the module of your handlers: `SETTINGS = ErpSettings()`. A process that
    loads the handlers checks all classes at start. With faults it prints one sentence for each and exits with code 2.
    Use `SecretStr` for secrets: logs, dead letters and the timeline mask its value if it has six characters or more and
    is no short number. Repr and faults show no value of any field.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True)

    def __init__(self, **values: Any) -> None:
        """Read the environment; `values` replace variables, in tests for example.

        Raises:
            ConfigurationError: a variable is missing or invalid.
        """
        try:
            super().__init__(**values)
        except (ValidationError, SettingsError) as error:
            faults = _sentences(type(self), error)
        else:
            add_secrets(filter(_is_maskable, _secret_texts(self.__dict__)))
            return
        collected = _faults.get()
        if collected is None:
            raise ConfigurationError(faults)
        collected.extend(faults)  # the import goes on, so that the faults of other modules are reported too
        self.__dict__.update(_placeholders(type(self)))
        object.__setattr__(self, "__pydantic_fields_set__", set())
        object.__setattr__(self, "__pydantic_extra__", None)
        object.__setattr__(self, "__pydantic_private__", None)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the names of the fields: a value may be a secret, whatever its type."""
        yield from ((None, name) for name in type(self).model_fields)


@contextmanager
def collected_settings_faults() -> Iterator[list[str]]:
    """Collect the faults of the settings that are read inside the block."""
    faults: list[str] = []
    token = _faults.set(faults)
    try:
        yield faults
    finally:
        _faults.reset(token)


def read_settings_of(package: str) -> None:
    """Read every class of settings that a package defines, so that those without an instance are checked too."""
    for cls in _subclasses(HandlerSettings):
        if cls.__module__ == package or cls.__module__.startswith(f"{package}."):
            cls()


def handler_variables() -> set[str]:
    """Return the environment variables that the loaded handlers read with their classes of settings."""
    return {_variable(cls, field) for cls in _subclasses(HandlerSettings) for field in cls.model_fields}


def _secret_texts(value: object) -> Iterator[str]:
    """Yield the secrets in a value of a field, at any depth."""
    if isinstance(value, SecretStr | SecretBytes | Secret):
        secret = value.get_secret_value()
        text = secret.decode(errors="replace") if isinstance(secret, bytes) else str(secret)
        yield text
        yield from filter(is_distinctive, text.splitlines())  # of a private key; output is masked line by line
    elif isinstance(value, BaseModel):
        yield from _secret_texts(vars(value))
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _secret_texts(member)
    elif isinstance(value, list | tuple | set | frozenset):
        for member in value:
            yield from _secret_texts(member)


def _is_maskable(secret: str) -> bool:
    return len(secret) >= _SHORTEST_SECRET and not (secret.isdigit() and not is_distinctive(secret))


def _subclasses(cls: type[HandlerSettings]) -> Iterator[type[HandlerSettings]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _placeholders(cls: type[HandlerSettings]) -> dict[str, object]:
    """Return defaults and texts of the environment, with which the import of a package with faults goes on."""
    texts = {variable.upper(): text for variable, text in os.environ.items()}
    texts_by_field = {name: texts.get(_variable(cls, name)) for name in cls.model_fields}
    defaults = vars(cls.model_construct())
    return {**defaults, **{name: text for name, text in texts_by_field.items() if text is not None}}


def _sentences(cls: type[HandlerSettings], error: ValidationError | SettingsError) -> list[str]:
    """Return a sentence for each fault, without values."""
    if isinstance(error, SettingsError):
        names = [name for name in cls.model_fields if f'"{name}"' in str(error)] or list(cls.model_fields)
        return [f"{_variable(cls, names[0])} must be JSON: it has several parts."]
    return [_sentence(cls, detail, os.environ) for detail in error.errors(include_input=False, include_url=False)]


def _sentence(cls: type[HandlerSettings], error: ErrorDetails, environ: Mapping[str, str]) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    if not field:
        return f"{cls.__name__}: {error['msg'].removeprefix('Value error, ')}"
    name = _variable(cls, field)
    description = cls.model_fields[field].description if field in cls.model_fields else ""
    if error["type"] == "missing":
        return f"{name} is not set: {description or f'{cls.__name__} needs it{_place(cls)}'}."
    renamed: ErrorDetails = {**error, "loc": (name,)}
    sentence = invalid_setting(renamed, "")
    texts = {value for variable, value in environ.items() if variable.upper() == name and value}
    for text in texts:  # a validator of the handlers may quote it
        sentence = sentence.replace(text, _MASK)
    return sentence


@cache  # a module whose import fails is gone when the faults are compared
def _place(cls: type[HandlerSettings]) -> str:
    """Return where a class of settings is defined, empty if its source is not there."""
    try:
        return f" (class in {os.path.relpath(inspect.getfile(cls))}:{inspect.getsourcelines(cls)[1]})"
    except (OSError, TypeError, ValueError):
        return ""


def _variable(cls: type[HandlerSettings], field: str) -> str:
    """Return the environment variable of a field; a field with an alias is known by the alias."""
    prefix = str(cls.model_config.get("env_prefix", "")) if field in cls.model_fields else ""
    return f"{prefix}{field}".upper()

"""The types of the settings' fields: each parses the text of its variable once."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from spokes.core.settings import texts, web_urls
from spokes.core.settings.database_url import parse_database_url
from spokes.core.settings.redis_url import parse_redis_url
from spokes.core.settings.strength import check_strength


def _text_parser(parse: Callable[[str], object]) -> BeforeValidator:
    """Return the validator that applies `parse` to the variable's text, and to no default."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) and value else value)


def _same_if_valid(check: Callable[[str], object]) -> Callable[[str], str]:
    """Return a parser that returns its text unchanged if `check` does not raise."""

    def parse(text: str) -> str:
        check(text)
        return text

    return parse


def _list_of(parse: Callable[[str], object]) -> Callable[[str], tuple[object, ...]]:
    return lambda text: tuple(parse(part) for part in texts.split_list(text))


def _check_newest_key(text: str) -> tuple[str, ...]:
    """Return the keys; the newest encrypts, so it must be strong. The others only decrypt what they encrypted once."""
    parts = texts.split_list(text)
    if parts:
        check_strength(parts[0])
    return parts


_LIST: Final = _text_parser(texts.split_list)
OriginList: TypeAlias = Annotated[tuple[str, ...], NoDecode, _text_parser(_list_of(web_urls.parse_origin))]
DomainList: TypeAlias = Annotated[tuple[str, ...], NoDecode, _text_parser(texts.parse_domains)]
EventTypeList: TypeAlias = Annotated[tuple[str, ...], NoDecode, _text_parser(texts.parse_event_types)]
PortalId: TypeAlias = Annotated[int, Field(ge=1, le=2**53)]
PortalList: TypeAlias = Annotated[tuple[PortalId, ...], NoDecode, _text_parser(texts.parse_portal_ids)]
SecondsList: TypeAlias = Annotated[tuple[Annotated[float, Field(ge=0, le=604_800)], ...], NoDecode, _LIST]
KeyList: TypeAlias = Annotated[tuple[SecretStr, ...], NoDecode, _text_parser(_check_newest_key)]
ClientSecrets: TypeAlias = Annotated[tuple[SecretStr, ...], NoDecode, _text_parser(texts.parse_client_secrets)]
NetworkList: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, _LIST]
SignatureVersions: TypeAlias = Annotated[tuple[Literal["v1", "v2", "v3"], ...], NoDecode, _LIST]
PublicUrl: TypeAlias = Annotated[str, _text_parser(web_urls.parse_public_url)]
ApiUrl: TypeAlias = Annotated[str, _text_parser(web_urls.parse_api_url)]
WebhookUrl: TypeAlias = Annotated[SecretStr, _text_parser(web_urls.parse_webhook_url)]
CheckpointTarget: TypeAlias = Annotated[SecretStr, _text_parser(web_urls.parse_checkpoint_target)]
Issuer: TypeAlias = Annotated[str, _text_parser(web_urls.parse_issuer)]
Dsn: TypeAlias = Annotated[SecretStr, _text_parser(web_urls.parse_dsn)]
RedisUrl: TypeAlias = Annotated[SecretStr, _text_parser(_same_if_valid(parse_redis_url))]
DatabaseUrl: TypeAlias = Annotated[SecretStr, _text_parser(_same_if_valid(parse_database_url))]
AccessToken: TypeAlias = Annotated[SecretStr, _text_parser(texts.parse_access_token)]
StrongSecret: TypeAlias = Annotated[SecretStr, _text_parser(check_strength)]
MetricsToken: TypeAlias = Annotated[SecretStr, _text_parser(texts.parse_metrics_token)]
DataDir: TypeAlias = Annotated[Path, _text_parser(texts.parse_data_dir)]
ConsoleKey: TypeAlias = Annotated[SecretStr, _text_parser(texts.check_console_key)]
RoleName: TypeAlias = Literal["viewer", "operator", "privacy_officer", "admin"]
RoleGrants: TypeAlias = Annotated[tuple[tuple[str, RoleName], ...], NoDecode, _text_parser(texts.parse_grants)]
PackageName: TypeAlias = Annotated[str, _text_parser(texts.parse_package)]
ApiVersion: TypeAlias = Annotated[str, _text_parser(texts.parse_api_version)]
Country: TypeAlias = Annotated[str, _text_parser(texts.parse_country)]
Host: TypeAlias = Annotated[str, _text_parser(texts.parse_host)]
ClientId: TypeAlias = Annotated[str, _text_parser(texts.parse_client_id)]
ScopeList: TypeAlias = Annotated[tuple[str, ...], NoDecode, _text_parser(texts.parse_scopes)]
AppUrl: TypeAlias = Annotated[str, _text_parser(web_urls.parse_app_url)]

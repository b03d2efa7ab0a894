"""`Settings`: every environment variable with its type, unit and default.

All problems are reported at once, one sentence per variable that says what to do. No sentence quotes a value, because
it may be a secret.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from spokes.core.errors import ConfigurationError

RECEIVER_PATH: Final = "/webhooks/hubspot"
_MIN_KEY_LENGTH: Final = 32  # characters
_MAX_SOCKET_PATH: Final = 100  # characters
_LOOPBACK: Final = frozenset({("http", "127.0.0.1"), ("http", "::1"), ("http", "localhost")})


def _split_list(value: object) -> object:
    """Turn "a, b" into ("a", "b"); return any other type unchanged."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _parse_public_url(value: object) -> object:
    """Accept the base URL or the target URL of HubSpot's form; return the base URL."""
    if not isinstance(value, str) or not value:
        return value
    base = value.rstrip("/").removesuffix(RECEIVER_PATH)
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        msg = "must be a URL such as https://hooks.example.com, without query or fragment"
        raise ValueError(msg)
    return base


def _check_client_secrets(value: object) -> object:
    parts = _split_list(value)
    if isinstance(parts, tuple):
        for part in parts:
            text = part.get_secret_value() if isinstance(part, SecretStr) else str(part)
            if text.lower().startswith("pat-"):
                msg = "is an access token (pat-...); HubSpot signs with the app's client secret, found on its Auth page"
                raise ValueError(msg)
            if any(character.isspace() or character in "\"'" for character in text):
                msg = "contains a blank or a quotation mark, which no client secret does; copy only the secret"
                raise ValueError(msg)
            if len(text) < 8:  # noqa: PLR2004 - shorter than any secret HubSpot issues, and guessable
                msg = "is too short to be a HubSpot client secret"
                raise ValueError(msg)
    return parts


def _check_webhook_url(value: object) -> object:
    """Accept https, and http on this machine only. The URL may be a secret, as Slack's is."""
    url = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if url and not is_confidential_url(url):
        msg = "must be an https URL"
        raise ValueError(msg)
    return value


def is_confidential_url(url: str) -> bool:
    """Return whether nobody can read or change what is sent to `url`: it is https, or on this machine."""
    parts = urlsplit(url)
    return (parts.scheme == "https" and bool(parts.hostname)) or (parts.scheme, parts.hostname) in _LOOPBACK


def _check_issuer(value: object) -> object:
    """Accept an issuer URL unchanged: the provider's tokens repeat it character by character."""
    parts = urlsplit(str(value))
    if value and not (is_confidential_url(str(value)) and not parts.query and not parts.fragment):
        msg = "must be an https URL such as https://login.example.com, without query or fragment"
        raise ValueError(msg)
    return value


def _parse_grants(value: object) -> object:
    """Turn "ops=operator, ada@example.com=admin" into pairs of claim value and role."""
    parts = _split_list(value)
    if not isinstance(parts, tuple):
        return parts
    pairs = [part.rpartition("=") if isinstance(part, str) else part for part in parts]
    if not all(len(pair) != 3 or (pair[0].strip() and pair[1]) for pair in pairs):  # noqa: PLR2004 - of rpartition
        msg = "must be pairs such as ops-team=operator,ada@example.com=admin"
        raise ValueError(msg)
    return tuple((pair[0].strip(), pair[-1].strip()) for pair in pairs)


def _check_console_key(value: object) -> object:
    """Reject a key that is short enough to guess."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if text and len(text) < _MIN_KEY_LENGTH:
        msg = "needs at least 32 characters; `openssl rand -hex 32` prints a suitable one"
        raise ValueError(msg)
    return value


WordList: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_list)]
IntList: TypeAlias = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split_list)]
SecondsList: TypeAlias = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_split_list)]
SecretList: TypeAlias = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_list)]
ClientSecrets: TypeAlias = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_check_client_secrets)]
NetworkList: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split_list)]
SignatureVersions: TypeAlias = Annotated[tuple[Literal["v1", "v2", "v3"], ...], NoDecode, BeforeValidator(_split_list)]
PublicUrl: TypeAlias = Annotated[str, BeforeValidator(_parse_public_url)]
WebhookUrl: TypeAlias = Annotated[SecretStr, BeforeValidator(_check_webhook_url)]
ConsoleKey: TypeAlias = Annotated[SecretStr, BeforeValidator(_check_console_key)]
RoleName: TypeAlias = Literal["viewer", "operator", "privacy_officer", "admin"]
Issuer: TypeAlias = Annotated[str, BeforeValidator(_check_issuer)]
RoleGrants: TypeAlias = Annotated[tuple[tuple[str, RoleName], ...], NoDecode, BeforeValidator(_parse_grants)]


_HINTS: Final[Mapping[str, str]] = {
    "HUBSPOT_CLIENT_SECRET": "copy the client secret from the Auth page of your HubSpot app",
    "HUBSPOT_ACCESS_TOKEN": "copy the access token from the Auth page of your HubSpot app",
    "ALERT_WEBHOOK_SECRET": "messages to ALERT_WEBHOOK_URL are signed with it; choose any long text",
    "PUBLIC_URL": "set it to the URL that HubSpot calls, such as https://hooks.example.com",
    "CONSOLE_KEY": "it enables the console; set it to the output of `openssl rand -hex 32`",
    "OIDC_ISSUER": "set it to the URL of your identity provider, such as https://login.example.com",
    "OIDC_ROLES": "it assigns roles, such as ops-team=operator,ada@example.com=admin",
}
_COMPANIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "ALERT_WEBHOOK_URL": ("ALERT_WEBHOOK_SECRET",),
    "OIDC_ISSUER": ("OIDC_ROLES",),
    "OIDC_AUDIENCE": ("OIDC_ISSUER",),
    "OIDC_CLIENT_ID": ("OIDC_ISSUER", "PUBLIC_URL"),
    "OIDC_CLIENT_SECRET": ("OIDC_CLIENT_ID",),
}


def missing_setting(name: str, blank: Iterable[str]) -> str:
    """Return the sentence for a missing variable; `blank` are the variables set to an empty value, in lower case."""
    state = "is set but empty" if name.lower() in blank else "is not set"
    return f"{name} {state}: {_HINTS.get(name, 'see README')}."


def missing_companions(names: AbstractSet[str], blank: Iterable[str]) -> Iterator[str]:
    """Return a sentence for each variable that one of `names` requires and that is not set."""
    required = {companion for name in names for companion in _COMPANIONS.get(name, ())}
    return (missing_setting(name, blank) for name in required - names)


def invalid_setting(field: str, message: str) -> str:
    """Return a pydantic message as a sentence without the value, which may be a secret."""
    problem = message.removeprefix("Value error, ").rstrip(".")
    return f"{field.upper()} {problem[:1].lower()}{problem[1:]}."


class Settings(BaseSettings):
    """The settings; one field per environment variable, with its name in lower case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    # HubSpot
    hubspot_client_secret: ClientSecrets = ()
    hubspot_access_token: SecretStr = SecretStr("")
    hubspot_api_url: str = "https://api.hubapi.com"
    hubspot_api_version: str = Field("2026-09", pattern=r"^(v3|\d{4}-\d{2}(-beta)?)$")
    hubspot_rate_limit: int = Field(
        100, ge=1, description="CRM calls in a rolling 10 s; depends on your HubSpot plan, see README"
    )
    hubspot_search_limit: int = Field(5, ge=1, description="search calls per second and account")
    hubspot_association_limit: int = Field(100, ge=1, description="batch association calls in a rolling 10 s")
    hubspot_reserve: float = Field(0.1, ge=0, le=0.5, description="share of the limit that imports may not use")
    hubspot_timeout_s: float = Field(20.0, gt=0, description="one CRM call")
    # Web process
    public_url: PublicUrl = ""
    signature_versions: SignatureVersions = ("v3",)
    signature_max_age_s: int = Field(300, ge=1)
    signature_max_skew_s: int = Field(300, ge=0, description="how far ahead of our clock a timestamp may be")
    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024, le=16 * 1024 * 1024)
    allowed_events: WordList = ()
    portal_ids: IntList = ()
    trusted_proxies: int = Field(0, ge=0, le=10, description="our own proxies in front of the web process; Heroku: 1")
    allowed_addresses: NetworkList = ()
    failed_signature_limit: int = Field(60, ge=1, description="per address and minute, before 401 becomes 429")
    redis_timeout_s: float = Field(
        2.0, gt=0, description="how long the web process waits for Redis before it answers 503"
    )
    durable_ack: Literal["redis", "aof"] = "redis"  # 202 waits for Redis' response, or also for its disk (WAITAOF)
    max_backlog: int = Field(200_000, ge=1, description="deliveries due within a minute above which others get a 503")
    max_unarchived: int = Field(1_000_000, ge=1, description="the same for audit records waiting in Redis")
    max_memory_share: float = Field(0.85, gt=0, le=1, description="the same for the used share of Redis' maxmemory")
    require_persistence: bool = False  # whether /readyz fails if Redis keeps nothing on disk
    body_timeout_s: float = Field(
        10.0, gt=0, description="limit for reading a request's body, and a connection's first request head"
    )
    dedupe_hours: int = Field(48, ge=25, description="lifetime of dedupe marks; HubSpot retries for 24 h")
    # Workers
    handlers: str = "handlers"
    max_deliveries: int = Field(200, ge=1, description="deliveries one worker process runs at a time")
    max_objects: int = Field(200, ge=1, description="CRM objects one worker process works on at a time")
    handler_timeout_s: float = Field(60.0, gt=0, description="one run of one handler")
    retry_schedule_s: SecondsList = (
        2, 10, 60, 300, 1800, 7200, 21600,
    )  # fmt: skip
    dead_letter_days: int = Field(30, ge=1)
    default_region: str = Field("US", pattern=r"^[A-Z]{2}$", description="country of phone numbers without a +")
    blocked_email_domains: WordList = ()
    # Storage
    redis_url: SecretStr = SecretStr("")
    redis_web_connections: int = Field(
        6, ge=3, description="Redis connections of one web process; the sum of all processes must fit the Redis plan"
    )
    redis_worker_connections: int = Field(7, ge=3, description="the same of one worker process")
    redis_console_connections: int = Field(3, ge=1, description="the same of the console of one web process")
    redis_tls_verify: bool = False  # Heroku's certificate is self-signed: docs/adr/0005
    database_url: SecretStr = SecretStr("")
    data_dir: Path = Path(".spokes")
    audit_key: SecretStr = SecretStr("")
    secrets_key: SecretList = ()
    audit_days: int = Field(730, ge=1, description="how long audit records are kept")
    stream_days: int = Field(
        30, ge=1, description="how long an audit record waits in Redis while the audit store is unavailable"
    )
    checkpoint_every: int = Field(10_000, ge=1, description="records between two signed checkpoints")
    audit_backlog: int = Field(100_000, ge=1, description="audit records waiting in Redis that raise an alert")
    # Counts in 24 hours that raise an alert
    watch_deletions: int = Field(100, ge=1)
    watch_privacy_deletions: int = Field(20, ge=1)
    watch_merges: int = Field(100, ge=1)
    watch_signature_failures: int = Field(1_000, ge=1)
    watch_dead_letters: int = Field(100, ge=1)
    # Console
    console_key: ConsoleKey = SecretStr("")
    console_origins: WordList = ()  # origins of other sites whose scripts may call the API
    console_rate_limit: int = Field(300, ge=1, description="API requests per actor and minute")
    oidc_issuer: Issuer = ""  # the identity provider's issuer URL, exactly as it writes it
    oidc_audience: str = ""  # audience of its tokens for the API
    oidc_client_id: str = ""  # client id of our login page
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_scopes: str = "openid email profile"
    oidc_roles_claim: str = "roles"  # a dot descends into a claim: realm_access.roles
    oidc_portals_claim: str = ""
    oidc_roles: RoleGrants = ()  # pairs: a value of that claim or a verified e-mail address, and the role it gets
    # Process
    host: str = "0.0.0.0"  # noqa: S104 - a dyno is reached on its public interface
    port: int = Field(8080, ge=0, le=65535)
    web_concurrency: int = Field(1, ge=1, le=64)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "columns"] = "auto"
    sentry_dsn: SecretStr = SecretStr("")
    sentry_environment: str = "production"
    sentry_release: str = ""
    sentry_traces_rate: float = Field(0.0, ge=0, le=1, description="share of requests, deliveries and runs")
    heroku_slug_commit: str = ""
    metrics_token: SecretStr = SecretStr("")
    alert_webhook_url: WebhookUrl = SecretStr("")
    alert_webhook_secret: SecretStr = SecretStr("")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the arguments of the constructor: a settings object never reads the environment by itself."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, required: Iterable[str] = ()) -> Self:
        """Read the environment.

        Args:
            environ: variables by name; os.environ when None.
            required: variables that this process needs.

        Raises:
            ConfigurationError: with one sentence for each missing or invalid variable.
        """
        environ = os.environ if environ is None else environ
        texts = {name: environ[name.upper()] for name in cls.model_fields if environ.get(name.upper(), "").strip()}
        blank = {name for name in cls.model_fields if name.upper() in environ and name not in texts}
        problems = [missing_setting(name, blank) for name in required if name.lower() not in texts]
        try:
            settings = cls(**texts)  # type: ignore[arg-type]  # text, which the fields' validators parse
        except ValidationError as error:
            problems += [invalid_setting(str(e["loc"][0]) if e["loc"] else "", e["msg"]) for e in error.errors()]
        else:
            problems += [
                missing_setting(name, blank)
                for name in required
                if name.lower() in texts and not _is_set(getattr(settings, name.lower()))
            ]
            set_names = {name.upper() for name in cls.model_fields if _is_set(getattr(settings, name))}
            problems += missing_companions(set_names, blank)
            if settings.oidc_audience and settings.oidc_audience == settings.oidc_client_id:
                problems.append(
                    "OIDC_AUDIENCE equals OIDC_CLIENT_ID: the ID token of a login could be used to call the API."
                )
            if settings.hubspot_access_token.get_secret_value() in settings.client_secrets:
                problems.append(
                    "HUBSPOT_CLIENT_SECRET equals HUBSPOT_ACCESS_TOKEN: HubSpot signs with the client secret."
                )
            if not problems:
                return settings
        raise ConfigurationError(sorted(problems))

    @property
    def client_secrets(self) -> tuple[str, ...]:
        """The live client secrets, newest first by convention."""
        return tuple(s.get_secret_value() for s in self.hubspot_client_secret)

    @property
    def vault_keys(self) -> tuple[str, ...]:
        """The keys in SECRETS_KEY, the newest first."""
        return tuple(s.get_secret_value() for s in self.secrets_key)

    @property
    def secret_values(self) -> tuple[str, ...]:
        """Every text that logs and pages must never show."""
        urls = (self.redis_url.get_secret_value(), self.database_url.get_secret_value())
        passwords = tuple(urlsplit(url).password or "" for url in urls)
        webhook = (self.alert_webhook_url, self.alert_webhook_secret, self.metrics_token)
        singles = (
            self.hubspot_access_token,
            self.audit_key,
            self.sentry_dsn,
            *webhook,
            self.console_key,
            self.oidc_client_secret,
        )
        return (*self.client_secrets, *self.vault_keys, *(s.get_secret_value() for s in singles), *passwords)

    @property
    def redis_address(self) -> str:
        """REDIS_URL, or the socket of the embedded Valkey in DATA_DIR."""
        return self.redis_url.get_secret_value() or f"unix://{self.embedded_socket}"

    @property
    def embedded_socket(self) -> Path:
        """The socket of the embedded Valkey in this DATA_DIR; kernels limit a socket's path to about 100 characters."""
        data_dir = self.data_dir.resolve()
        path = data_dir / "valkey.sock"
        if len(str(path)) <= _MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"spokes-{os.getuid()}-{name}.sock"

    @property
    def database_address(self) -> str:
        """DATABASE_URL in SQLAlchemy's spelling, or SQLite in DATA_DIR."""
        url = self.database_url.get_secret_value()
        if not url:
            return f"sqlite+aiosqlite:///{self.data_dir.resolve()}/audit.sqlite"
        for scheme in ("postgres://", "postgresql://"):
            if url.startswith(scheme):
                return "postgresql+asyncpg://" + url.removeprefix(scheme)
        if url.startswith("sqlite://"):
            return "sqlite+aiosqlite://" + url.removeprefix("sqlite://")
        return url


def _is_set(value: object) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)

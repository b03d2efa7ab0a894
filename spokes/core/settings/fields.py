"""`Settings`: every environment variable with its type, unit and default.

All problems are reported at once, one sentence per variable that says what to do. No sentence quotes a value, because
it may be a secret.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from spokes.core.errors import ConfigurationError
from spokes.core.settings.cross_checks import contradictions
from spokes.core.settings.database_url import Database, parse_database_url
from spokes.core.settings.field_types import (
    AccessToken,
    ApiUrl,
    ApiVersion,
    AppUrl,
    CheckpointTarget,
    ClientId,
    ClientSecrets,
    ConsoleKey,
    Country,
    DatabaseUrl,
    DataDir,
    DomainList,
    Dsn,
    EventTypeList,
    Host,
    Issuer,
    KeyList,
    MetricsToken,
    NetworkList,
    OriginList,
    PackageName,
    PortalList,
    PublicUrl,
    RedisUrl,
    RoleGrants,
    ScopeList,
    SecondsList,
    SignatureVersions,
    StrongSecret,
    WebhookUrl,
)
from spokes.core.settings.redis_url import RedisServer, parse_redis_url
from spokes.core.settings.sentences import invalid_setting, missing_companions, missing_setting
from spokes.core.settings.strength import is_distinctive, is_strong

_MAX_SOCKET_PATH: Final = 100  # characters
_QUOTES: Final = "\"'"
_VERBATIM: Final = frozenset({"audit_key", "secrets_key"})  # every character belongs to a key


class Settings(BaseSettings):
    """The settings; one field per environment variable, with its name in lower case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    # HubSpot
    hubspot_client_secret: ClientSecrets = ()
    hubspot_access_token: AccessToken = SecretStr("")
    hubspot_api_url: ApiUrl = "https://api.hubapi.com"
    hubspot_api_version: ApiVersion = "2026-09"
    hubspot_rate_limit: int = Field(
        100, ge=1, le=1_000_000, description="CRM calls in a rolling 10 s; depends on your HubSpot plan, see README"
    )
    hubspot_search_limit: int = Field(5, ge=1, le=1_000_000, description="search calls per second and account")
    hubspot_association_limit: int = Field(100, ge=1, le=1_000_000, description="batch association calls in 10 s")
    hubspot_reserve: float = Field(0.05, ge=0, le=0.5, description="share of the limit that imports leave free")
    token_refreshes_per_s: int = Field(
        10, ge=1, le=1000, description="refreshes of portals' OAuth tokens that all workers together begin in a second"
    )
    hubspot_timeout_s: float = Field(20.0, gt=0, le=3600, description="one CRM call")
    hubspot_developer_api_key: SecretStr = SecretStr("")  # for the subscriptions of a legacy public app
    hubspot_max_concurrent_requests: int = Field(
        10, ge=6, le=1_000, description="deliveries that HubSpot may have in flight for one account"
    )
    # An app that customers install by OAuth
    hubspot_app_id: int = Field(0, ge=0, le=2**53, description="the app's number; 0 if not set")
    hubspot_client_id: ClientId = ""  # enables installs
    hubspot_optional_scopes: ScopeList = ()
    hubspot_app_url: AppUrl = "https://app.hubspot.com"  # where people authorise an install
    uninstalled_days: int = Field(30, ge=0, le=3650, description="until the data of an uninstalled portal is erased")
    # Web process
    public_url: PublicUrl = ""
    signature_versions: SignatureVersions = ("v3",)
    signature_max_age_s: int = Field(300, ge=1, le=31_536_000)
    signature_max_skew_s: int = Field(
        300, ge=0, le=31_536_000, description="how far ahead of our clock a timestamp may be"
    )
    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1024, le=16 * 1024 * 1024)
    allowed_events: EventTypeList = ()
    portal_ids: PortalList = ()
    trusted_proxies: int = Field(0, ge=0, le=10, description="our own proxies in front of the web process; Heroku: 1")
    allowed_addresses: NetworkList = ()
    failed_signature_limit: int = Field(
        60, ge=1, le=1_000_000, description="per address and minute, before 401 becomes 429"
    )
    redis_timeout_s: float = Field(
        2.0, gt=0, le=300, description="how long the web process waits for Redis before it answers 503"
    )
    durable_ack: Literal["redis", "aof"] = "redis"  # 202 waits for Redis' response, or also for its disk (WAITAOF)
    max_backlog: int = Field(
        200_000, ge=1, le=1_000_000_000, description="deliveries due within a minute above which others get a 503"
    )
    max_held: int = Field(
        200_000, ge=1, le=1_000_000_000,
        description="deliveries of a portal that wait for the end of a pause, above which that portal gets a 503",
    )  # fmt: skip
    max_unarchived: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="the same for audit records waiting in Redis"
    )
    max_memory_share: float = Field(0.85, gt=0, le=1, description="the same for the used share of Redis' maxmemory")
    require_persistence: bool = False  # whether /readyz fails if Redis keeps nothing on disk
    body_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="limit for reading a request's body, and a connection's first request head"
    )
    dedupe_hours: int = Field(48, ge=25, le=8760, description="lifetime of dedupe marks; HubSpot retries for 24 h")
    journal: bool = False  # whether the web process runs the reader of HubSpot's journal too
    # Workers
    nightly_reconciliation: bool = False  # whether HubSpot's records of each day are compared with the audit
    handlers: PackageName = "handlers"
    max_deliveries: int = Field(200, ge=1, le=100_000, description="deliveries one worker process runs at a time")
    max_objects: int = Field(
        200,
        ge=1,
        le=100_000,
        description="CRM objects one worker process works on at a time, beside those that wait for HubSpot's answer",
    )
    handler_timeout_s: float = Field(60.0, gt=0, le=86_400, description="one run of one handler")
    retry_schedule_s: SecondsList = (
        2, 10, 60, 300, 1800, 7200, 21600,
    )  # fmt: skip
    outage_retry_hours: float = Field(
        24.0, ge=0, le=720, description="how long an event is retried after that while HubSpot itself fails"
    )
    dead_letter_days: int = Field(30, ge=1, le=3650)
    default_region: Country = Field("US", description="country of phone numbers without a +")
    blocked_email_domains: DomainList = ()
    # Storage
    redis_url: RedisUrl = SecretStr("")
    redis_web_connections: int = Field(
        6, ge=3, le=10_000, description="Redis connections of one web process; all processes must fit the Redis plan"
    )
    redis_worker_connections: int = Field(7, ge=3, le=10_000, description="the same of one worker process")
    redis_console_connections: int = Field(3, ge=1, le=10_000, description="the same of the console of one web process")
    redis_tls_verify: bool = False  # Heroku's certificate is self-signed: docs/adr/0005
    database_url: DatabaseUrl = SecretStr("")
    data_dir: DataDir = Path(".spokes")
    audit_key: SecretStr = SecretStr("")
    secrets_key: KeyList = ()
    audit_days: int = Field(730, ge=1, le=36_500, description="how long audit records are kept")
    stream_days: int = Field(
        30, ge=1, le=3650, description="how long an audit record waits in Redis while the audit store is unavailable"
    )
    checkpoint_to: CheckpointTarget = SecretStr("")  # https URL or absolute path to which checkpoints are sent hourly
    checkpoint_every: int = Field(10_000, ge=1, le=1_000_000_000, description="records between two signed checkpoints")
    audit_backlog: int = Field(
        100_000, ge=1, le=1_000_000_000, description="audit records waiting in Redis that raise an alert"
    )
    # Counts in 24 hours that raise an alert
    watch_deletions: int = Field(100, ge=1, le=1_000_000_000)
    watch_privacy_deletions: int = Field(20, ge=1, le=1_000_000_000)
    watch_merges: int = Field(100, ge=1, le=1_000_000_000)
    watch_signature_failures: int = Field(1_000, ge=1, le=1_000_000_000)
    watch_dead_letters: int = Field(100, ge=1, le=1_000_000_000)
    watch_silent_hours: int = Field(6, ge=1, le=10_000)  # hours in which HubSpot normally sends
    # Console
    console_key: ConsoleKey = SecretStr("")
    console_origins: OriginList = ()  # origins of other sites whose scripts may call the API
    console_rate_limit: int = Field(300, ge=1, le=1_000_000, description="API requests per actor and minute")
    oidc_issuer: Issuer = ""  # the identity provider's issuer URL, exactly as it writes it
    oidc_audience: str = ""  # audience of its tokens for the API
    oidc_client_id: str = ""  # client id of our login page
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_scopes: str = "openid email profile"
    oidc_roles_claim: str = "roles"  # a dot descends into a claim: realm_access.roles
    oidc_portals_claim: str = ""
    oidc_roles: RoleGrants = ()  # pairs: a value of that claim or a verified e-mail address, and the role it gets
    # Process
    env_file: str = ".env"  # read by spokes.core.process.env_file, before all others
    host: Host = "0.0.0.0"  # noqa: S104 - a dyno is reached on its public interface
    port: int = Field(8080, ge=0, le=65535)
    web_concurrency: int = Field(1, ge=1, le=64)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "columns"] = "auto"
    sentry_dsn: Dsn = SecretStr("")
    sentry_environment: str = "production"
    sentry_release: str = ""
    sentry_traces_rate: float = Field(0.0, ge=0, le=1, description="share of requests, deliveries and runs")
    heroku_slug_commit: str = ""
    metrics_token: MetricsToken = SecretStr("")
    alert_webhook_url: WebhookUrl = SecretStr("")
    alert_webhook_secret: StrongSecret = SecretStr("")

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
        texts_, problems = _read_texts(environ, cls.model_fields)
        blank = {name for name in cls.model_fields if name.upper() in environ and not environ[name.upper()].strip()}
        unread = {problem.split(maxsplit=1)[0] for problem in problems}
        problems += [
            missing_setting(name, blank) for name in required if name.lower() not in texts_ and name not in unread
        ]
        try:
            settings = cls(**texts_)  # type: ignore[arg-type]  # text, which the fields' validators parse
        except ValidationError as error:
            problems += [
                invalid_setting(detail, _example(cls.model_fields[str(detail["loc"][0])])) for detail in error.errors()
            ]
        else:
            problems += [
                missing_setting(name, blank)
                for name in required
                if name.lower() in texts_ and not _is_set(getattr(settings, name.lower()))
            ]
            set_names = {name.upper() for name in cls.model_fields if _is_set(getattr(settings, name))}
            problems += [*missing_companions(set_names, blank), *contradictions(settings)]
            if not problems:
                return settings
        raise ConfigurationError(sorted(set(problems)))

    @property
    def has_weak_audit_key(self) -> bool:
        """Whether AUDIT_KEY is short enough to guess; it cannot be changed where records exist."""
        key = self.audit_key.get_secret_value()
        return bool(key) and not is_strong(key)

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
        """Every text that logs and pages must never show, except words that are no secret anywhere else."""
        urls = (self.redis_url.get_secret_value(), self.database_url.get_secret_value())
        passwords = (self.redis_server.password, self._database.password, *(_encoded_password(url) for url in urls))
        webhook = (self.alert_webhook_url, self.alert_webhook_secret, self.metrics_token)
        singles = (
            self.hubspot_access_token,
            self.hubspot_developer_api_key,
            self.audit_key,
            self.sentry_dsn,
            *webhook,
            self.console_key,
            self.oidc_client_secret,
        )
        target = self.checkpoint_to.get_secret_value()
        secret_target = target if "://" in target else ""  # the path of a file is no secret
        values = (*(single.get_secret_value() for single in singles), secret_target)
        secrets = (*self.client_secrets, *self.vault_keys, *values, *passwords)
        return tuple(dict.fromkeys(secret for secret in secrets if is_distinctive(secret)))

    @property
    def redis_server(self) -> RedisServer:
        """The server of REDIS_URL, or the embedded Valkey in DATA_DIR."""
        url = self.redis_url.get_secret_value()
        return parse_redis_url(url) if url else RedisServer(socket=str(self.embedded_socket))

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each setting of which a part has no effect."""
        ignored = {"REDIS_URL": self.redis_server.ignored, "DATABASE_URL": self._database.ignored}
        return tuple(
            f"{name} has parameters without effect here: {', '.join(sorted(set(map(_shown_name, names))))}."
            for name, names in ignored.items()
            if names
        )

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
        return self._database.address

    @property
    def _database(self) -> Database:
        url = self.database_url.get_secret_value()
        return (
            parse_database_url(url) if url else Database(f"sqlite+aiosqlite:///{self.data_dir.resolve()}/audit.sqlite")
        )


def _read_texts(environ: Mapping[str, str], names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the texts of the variables that are set, by field, and a sentence for each that is no usable text."""
    texts_: dict[str, str] = {}
    problems: list[str] = []
    for name in names:
        text = environ.get(name.upper(), "")
        if name not in _VERBATIM:
            text = text.strip()
        if not text.strip():
            continue
        if not text.isprintable() and name not in _VERBATIM:
            problems.append(f"{name.upper()} holds a control character or bytes that are not UTF-8: write it again.")
        elif any("\ud800" <= character <= "\udfff" for character in text):
            problems.append(f"{name.upper()} holds bytes that are not UTF-8: write it again.")
        elif len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES and name not in _VERBATIM:
            problems.append(
                f"{name.upper()} is enclosed in quotation marks: remove them, they are part of the value here."
            )
        else:
            texts_[name] = text
    return texts_, problems


def _example(field: FieldInfo) -> str:
    """Return the default of a field as one would write it; empty if it has none that shows its form."""
    default = field.default
    if isinstance(default, tuple) and default and not isinstance(default[0], SecretStr):
        return ",".join(map(str, default))
    return str(default) if isinstance(default, int | float | str) and default != "" else ""


def _encoded_password(url: str) -> str:
    """Return the password as the URL spells it."""
    userinfo = url.partition("://")[2].rpartition("@")[0]
    return userinfo.partition(":")[2]


def _shown_name(name: str) -> str:
    """Return the name of a parameter, or a stand-in if it may be a piece of a password."""
    return name if re.fullmatch(r"[A-Za-z_.-]{1,40}", name) else "one with an unusual name"


def _is_set(value: object) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)

"""Configuration of a simulator, as plain values. Defaults are HubSpot's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from spokes.simulator.changes import ChangeSource
from spokes.simulator.property_definition import PropertyDefinition

CUSTOM_TYPES: Final = "custom"
TEN_SECONDS_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Subscription:
    """One webhook subscription. Types starting with `object.` are generic and need `object_type`, the rest classic.

    `property_name` None matches every property, so that a test need not list them; HubSpot itself requires one.
    `object_type` CUSTOM_TYPES matches every custom type.
    """

    subscription_type: str
    property_name: str | None = None
    object_type: str | None = None
    active: bool = True
    subscription_id: int = 0  # 0: assigned when the subscription is added


@dataclass(frozen=True, slots=True)
class Latency:
    """Response time: log-normal with median `median_ms` and 99th percentile `p99_ms`; constant without `p99_ms`."""

    median_ms: float = 0.0
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls HubSpot allows a portal. Defaults are those of the Professional tier."""

    ten_secondly: int = 190
    daily: int = 625_000
    search_secondly: int = 5
    associations_ten_secondly: int = 150
    associations_daily: int = 500_000
    retry_after: bool = False  # whether a 429 carries Retry-After, which HubSpot does not document


OAUTH_LIMITS: Final = Limits(ten_secondly=110, daily=1_000_000_000)  # per app and account; no daily limit


@dataclass(frozen=True, slots=True)
class OAuthConfig:
    """The app that accounts install by OAuth; an authorisation must ask for all of `required_scopes`.

    `redirect_uris` empty allows every redirect address. `access_token_s` is in HubSpot's time: `speed` shortens it.
    With `rotates_refresh_tokens` each refresh returns another refresh token, and the earlier one works no longer; with
    `keeps_previous_refresh_token` it works until its successor is used. HubSpot itself returns the same token.
    """

    client_id: str = "7f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
    redirect_uris: tuple[str, ...] = ()
    required_scopes: tuple[str, ...] = ("oauth",)
    access_token_s: float = 1800.0
    rotates_refresh_tokens: bool = False
    keeps_previous_refresh_token: bool = False


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """The webhooks journal. Seconds are HubSpot's: `speed` shortens them.

    A page holds what was collected for `linger_s` (0: until the next read), at most `max_entries` and `max_bytes`. It
    is kept for `kept_s`; the address of its file works for `url_s`. An unknown or aged-out offset is answered with
    `unknown_offset_status`, for which HubSpot's docs name no number. A second POST of a subscription is answered as
    `second_post` says: the fields are replaced, the subscription gets a new id, there is a second one beside it,
    HubSpot keeps what it has, or answers 409.
    """

    max_entries: int = 10_000
    max_bytes: int = 5_000_000
    linger_s: float = 10.0
    kept_s: float = 259_200.0
    url_s: float = 300.0
    token_s: float = 1800.0
    max_count: int = 100
    reads_secondly: int = 100
    unknown_offset_status: int = 404
    subscription_calls_secondly: int = 50
    second_post: Literal["replace", "new_id", "beside", "keep", "conflict"] = "replace"


@dataclass(frozen=True, slots=True)
class PortalConfig:
    """One HubSpot account with one private app installed in it, or with none if `token` is empty.

    The keys of mappings are object types, by any name that HubSpot accepts. `scopes` None grants all.
    With `has_standard_properties` only properties that HubSpot defines, and `properties`, those that the portal has
    added, can be written; otherwise any. With `follows_previous_ids`, calls on one object resolve the previous ids of
    a merged record, as HubSpot's do; otherwise they return 404. `search_lag_s` is the time until search finds a new
    record and shows a change. `further_tokens` give access to the same account, as an old and a new token do while the
    token is rotated.
    """

    portal_id: int = 50112233
    app_id: int = 7788990
    token: str = "pat-na1-simulated"  # noqa: S105 - valid for this simulator only
    further_tokens: tuple[str, ...] = ()
    scopes: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)
    time_zone: str = "UTC"
    merge_makes_new_id: bool = True
    follows_previous_ids: bool = True
    property_changes_on_create: bool = False
    search_lag_s: float = 0.0
    custom_types: Mapping[str, str] = field(default_factory=dict)
    has_standard_properties: bool = True
    properties: Mapping[str, Mapping[str, PropertyDefinition]] = field(default_factory=dict)
    sensitive_properties: Mapping[str, frozenset[str]] = field(default_factory=dict)
    subscriptions: tuple[Subscription, ...] = ()

    @property
    def own_source(self) -> ChangeSource:
        """The source HubSpot records for the app's own writes."""
        return ChangeSource("INTEGRATION", str(self.app_id))


@dataclass(frozen=True, slots=True)
class Target:
    """The address deliveries are sent to. `public_url` is the URL that HubSpot calls and signs.

    `connect_url` is the address to connect to when the simulator also plays the proxy in front of the receiver; Host
    and X-Forwarded-* then describe the public URL.
    """

    public_url: str
    connect_url: str | None = None


@dataclass(frozen=True, slots=True)
class SenderConfig:
    """How deliveries are sent. Defaults are from HubSpot's "Webhooks API guide" and "Error handling".

    `linger_s` is the time events wait for a batch to fill, `duplicate_share` the share of events sent twice,
    `split_share` the share of failed batches retried as two batches; `shuffle` randomises the order within a batch,
    which HubSpot does not guarantee.
    """

    max_batch: int = 100
    max_in_flight: int = 10
    timeout_s: float = 5.0
    max_retries: int = 10
    linger_s: float = 0.02
    duplicate_share: float = 0.0
    split_share: float = 0.5
    shuffle: bool = False


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A whole simulator. `speed` shortens HubSpot's retry delays; `history` bounds the length of every log.

    `developer_key` is the key of the developer account, which the API of the app's subscriptions takes.
    """

    portals: tuple[PortalConfig, ...] = (PortalConfig(),)
    oauth: OAuthConfig = field(default_factory=OAuthConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    client_secret: str = "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8"  # noqa: S105 - invented
    developer_key: str = "simulated-developer-key"
    target: Target | None = None
    sender: SenderConfig = field(default_factory=SenderConfig)
    latency: Latency = field(default_factory=Latency)
    seed: int = 1
    speed: float = 1.0
    host: str = "127.0.0.1"
    port: int = 0
    history: int = 500_000

"""`doctor --portal`: why the events of one portal do not run as they should. HubSpot is asked about its token only."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.doctor.findings import Finding, fault, info, ok, warning
from spokes.console.doctor.pauses_check import check_pauses
from spokes.console.doctor.portals.installs_check import assess_tokens
from spokes.console.installs.oauth_parts import oauth_client, portal_store
from spokes.console.installs.portal_views import PortalView, installed_portals
from spokes.console.output import format_utc
from spokes.core import clock
from spokes.core.errors import SecretUnreadable
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.scopes import required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.portal import PortalSettings, portal_settings_classes, settings_faults
from spokes.portals.oauth_errors import OAuthError
from spokes.portals.profile import PortalProfile
from spokes.portals.profile_store import ProfileStore
from spokes.portals.store import PortalState, PortalStore
from spokes.queue.known_portals import known_portals
from spokes.routing import Router, load_router

_LATE_S: Final = 60.0  # for which the first delivery has been due
_SERVED_S: Final = 15.0  # since a worker announced that it has the credentials


@dataclass(frozen=True, slots=True)
class PortalFacts:
    """What is stored on one portal; `view` is None if it has not installed the app."""

    portal_id: int
    view: PortalView | None
    profile: PortalProfile
    is_known: bool
    is_served: bool  # whether a live worker has its credentials
    now: int  # epoch ms


async def check_portal(settings: Settings, engine: AsyncEngine, redis: Redis, portal_id: int) -> list[Finding]:
    """Return the findings on one portal.

    Raises:
        AuditUnavailable: the store does not answer.
        RedisError, OSError: Redis does not answer.
    """
    router, store = load_router(settings.handlers), portal_store(settings, engine)
    required = required_scopes(handler_declarations(router))
    optional = settings.hubspot_optional_scopes
    views = await installed_portals(store, redis, engine, None, required, optional=optional, only=portal_id)
    profiles, now = ProfileStore(engine, store.vault), clock.now_ms()
    announced_s = await redis.zscore(keys.CREDENTIAL_PORTALS, str(portal_id))
    facts = PortalFacts(
        portal_id,
        views[0] if views else None,
        await profiles.read(portal_id),
        bool(views) or portal_id in await known_portals(redis),
        announced_s is not None and announced_s > now / 1000 - _SERVED_S,
        now,
    )
    pauses = [finding for finding in await check_pauses(settings, redis) if finding.figures["portal_id"] == portal_id]
    return [
        *assess_state(facts, settings.portal_ids),
        *(await _check_tokens(facts, store, settings)),
        *pauses,
        *assess_work(facts.view),
        *assess_switches(facts.profile, router),
        *_check_own_settings(facts.profile, profiles, settings.handlers),
    ]


def assess_state(facts: PortalFacts, served: Collection[int]) -> Iterator[Finding]:
    """Assess whether the portal's events may run. `served` is PORTAL_IDS; empty: all portals."""
    portal_id, view = facts.portal_id, facts.view
    topic = f"portal {portal_id}"
    if served and portal_id not in served:
        yield fault(topic, "PORTAL_IDS does not list the portal: its events are parked, then become dead letters.")
    elif facts.is_served:
        yield ok(topic, "A running worker has the credentials of the portal.")
    elif not facts.is_known:
        yield fault(topic, "The portal is unknown here: no install, no access token and no event of it.")
    elif view is None or view.state in {PortalState.INSTALLED, PortalState.PAUSED}:
        yield fault(topic, "No running worker has the credentials of the portal. Start one, or look at its log.")
    if view is None:
        return
    since = f"since {format_utc(view.changed_at)} UTC"
    match view.state:
        case PortalState.NEEDS_REINSTALL:
            yield fault(
                topic,
                f"HubSpot has refused its tokens {since} ({view.reason}): its events wait for a day, then become dead "
                "letters. Ask its administrator to open the install link again, or run `spokes portals disconnect`.",
            )
        case PortalState.UNINSTALLED:
            yield info(topic, f"The app has been uninstalled {since} ({view.reason}): its events are discarded.")
        case _:
            yield ok(topic, f"The app was installed at {format_utc(view.installed_at)} UTC.")
    if view.scopes_missing and view.state != PortalState.UNINSTALLED:
        yield warning(
            topic,
            f"The install lacks the scopes {', '.join(view.scopes_missing)}: handlers that need them fail. Add them to "
            "the app's required scopes, then have the app installed again.",
        )


def assess_work(view: PortalView | None) -> Iterator[Finding]:
    """Assess what waits and what has failed."""
    if view is None:
        return
    topic = f"portal {view.portal_id}"
    if view.dead_letters:
        commands = f"`spokes dead list --portal {view.portal_id}` and `spokes dead replay`"
        yield warning(topic, f"{view.dead_letters:,} events are dead letters: see {commands}.")
    if view.parked:
        yield warning(topic, f"{view.parked:,} deliveries wait for the portal's tokens.")
    if view.lag_s > _LATE_S:
        sentence = f"The first of {view.backlog:,} waiting deliveries has been due for {view.lag_s:,.0f} s."
        yield warning(topic, sentence, lag_s=round(view.lag_s))


def assess_switches(profile: PortalProfile, router: Router) -> Iterator[Finding]:
    """Assess which handlers and event types are switched off."""
    topic = f"portal {profile.portal_id}"
    command = f"`spokes portals set {profile.portal_id} --handlers ...`"
    names = router.names
    running = [name for name in names if profile.has_handler(name)]
    if names and not running:
        yield warning(topic, f"No handler is switched on, so no event is queued. {command} switches some on.")
    elif len(running) < len(names):
        yield info(topic, f"Handlers that run for it: {', '.join(running)}.")
    unknown = sorted({name.removeprefix("-") for name in profile.handlers} - set(names))
    if unknown:
        yield warning(topic, f"Its settings name handlers that do not exist: {', '.join(unknown)}. {command} mends it.")
    if profile.events:
        yield info(topic, f"Only these event types are queued: {', '.join(profile.events)}.")


def assess_own_settings(
    portal_id: int, values: dict[str, str], classes: Sequence[type[PortalSettings]]
) -> Iterator[Finding]:
    """Assess whether the settings of handlers' own are complete and valid."""
    for cls in classes:
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        try:
            cls.model_validate_strings(own)
        except ValidationError as error:
            sentences = " ".join(settings_faults(cls, error, own))
            yield fault(
                f"portal {portal_id}",
                f"{sentences} Events whose handler reads {cls.__name__} become dead letters. Set it with "
                f"`spokes portals set {portal_id} --setting NAME=VALUE`, then replay them.",
            )


def _check_own_settings(profile: PortalProfile, profiles: ProfileStore, package: str) -> Iterator[Finding]:
    try:
        values = profiles.values(profile)
    except SecretUnreadable:
        sentence = "No key of SECRETS_KEY opens the settings of handlers' own. Put the earlier key back."
        yield fault(f"portal {profile.portal_id}", sentence)
    else:
        yield from assess_own_settings(profile.portal_id, values, portal_settings_classes(package))


async def _check_tokens(facts: PortalFacts, store: PortalStore, settings: Settings) -> list[Finding]:
    """Check that the tokens can be opened, and ask HubSpot about an access token that has not expired."""
    topic = f"portal {facts.portal_id}"
    try:
        stored = await store.read(facts.portal_id)
    except SecretUnreadable:
        sealed = [(portal_id, tokens) for portal_id, tokens in await store.sealed() if portal_id == facts.portal_id]
        return [*assess_tokens(sealed, store.vault)]
    if stored is None or stored.tokens is None or not settings.hubspot_client_id:
        return []
    if stored.tokens.expires_at <= facts.now:
        return [ok(topic, "Its access token has expired; it is refreshed with the next call.")]
    oauth = oauth_client(settings)
    try:
        answer = await oauth.introspect(stored.tokens.access_token.get_secret_value())
    except OAuthError as error:
        return [
            warning(topic, f"HubSpot does not say whether the access token is valid ({error.code or error.reason}).")
        ]
    finally:
        await oauth.close()
    if answer.is_active and answer.hub_id in {0, facts.portal_id}:
        return [ok(topic, f"HubSpot accepts its access token, until {format_utc(stored.tokens.expires_at)} UTC.")]
    return [warning(topic, "HubSpot does not accept its access token any more; it is refreshed with the next call.")]

"""Run all checks of `doctor`, for the command and the *Settings* page. The checks change nothing."""

import asyncio
import os
from collections.abc import Iterable

from pydantic import SecretStr

from spokes.audit.alerts.bad_items import collect_bad_items
from spokes.console.doctor.accounts_check import check_accounts
from spokes.console.doctor.audit_store_check import check_audit_store
from spokes.console.doctor.bad_items_check import assess_bad_items
from spokes.console.doctor.chain_end_check import check_chain_end
from spokes.console.doctor.findings import Finding, ok
from spokes.console.doctor.journal_check import check_journal
from spokes.console.doctor.outside.destinations_check import check_destinations
from spokes.console.doctor.outside.identity_check import check_identity_provider
from spokes.console.doctor.outside.receiver_check import check_receiver
from spokes.console.doctor.outside.webhook_check import check_alert_webhook
from spokes.console.doctor.pauses_check import check_pauses
from spokes.console.doctor.portals.hubspot_check import check_hubspot
from spokes.console.doctor.portals.installs_check import check_installs
from spokes.console.doctor.portals.tenant_check import check_tenants
from spokes.console.doctor.process_check import check_processes
from spokes.console.doctor.quarantine_check import check_quarantine
from spokes.console.doctor.redis_check import check_redis, keys_of_wrong_type
from spokes.console.doctor.secrets_check import check_stored_secrets
from spokes.console.doctor.settings_check import assess_data_folder, assess_settings
from spokes.console.doctor.subscriptions.deadlines_check import check_deadlines
from spokes.console.doctor.subscriptions.drift_check import check_drift
from spokes.console.tolerant_redis import TolerantRedis
from spokes.core.masking import MASK
from spokes.core.redis.connections import redis_pool
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.handler_declarations import handler_declarations
from spokes.routing import load_router


async def run_checks(settings: Settings) -> list[Finding]:
    """Return the settings in force, then the findings of all checks, which run concurrently."""
    router = load_router(settings.handlers)
    vault = Vault.from_settings(settings)
    redis = TolerantRedis.from_pool(redis_pool(settings))
    try:
        with collect_bad_items() as bad_items:
            results = await asyncio.gather(
                check_redis(redis, settings),
                check_audit_store(settings),
                check_chain_end(settings, redis),
                check_processes(settings, redis),
                check_pauses(settings, redis),
                check_journal(settings, redis),
                check_tenants(settings, redis),
                check_quarantine(settings, redis),
                check_accounts(settings, redis),
                check_stored_secrets(redis, vault),
                check_drift(settings, redis, router),
                check_deadlines(settings),
                check_hubspot(settings, handler_declarations(router)),
                check_installs(settings, handler_declarations(router)),
                check_receiver(settings),
                check_identity_provider(settings),
                check_alert_webhook(settings),
                check_destinations(settings),
            )
    finally:
        await redis.aclose()
    found = [finding for findings in results for finding in findings]
    unreadable = assess_bad_items(bad_items, named=keys_of_wrong_type(found))
    return [
        *settings_findings(settings),
        *assess_settings(settings, os.environ),
        *assess_data_folder(settings.data_dir),
        *found,
        *unreadable,
    ]


def settings_findings(settings: Settings) -> Iterable[Finding]:
    """Return one finding per setting with its value, secrets masked, and whether it is the default."""
    for name in sorted(Settings.model_fields):
        value = _display_value(getattr(settings, name))
        is_default = name not in settings.model_fields_set
        sentence = f"{name.upper()} = {value}{' (default)' if is_default else ''}"
        yield ok("settings", sentence, name=name.upper(), value=value, default=is_default)


def _display_value(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else "not set"
    if isinstance(value, tuple):
        return ", ".join(_display_value(part) for part in value) or "not set"
    return str(value) or "not set"

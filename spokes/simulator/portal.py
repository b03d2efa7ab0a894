"""One HubSpot account: its CRM, limits, token and conversations. Portals share no state."""

from collections.abc import Callable
from enum import StrEnum, unique
from random import Random

from spokes.simulator.changes import Change
from spokes.simulator.clock import Clock
from spokes.simulator.config import PortalConfig
from spokes.simulator.crm.conversations import Conversations
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.crm.store import CrmStore
from spokes.simulator.rate_limits import RateLimiter


@unique
class TokenState(StrEnum):
    """State of a token; HubSpot's response distinguishes a revoked token from an expired one."""

    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Portal:
    """The account that a token gives access to; `on_change` is called with every change in it."""

    def __init__(
        self, config: PortalConfig, clock: Clock, rng: Random, on_change: Callable[["Portal", Change], None]
    ) -> None:
        self.config = config
        self.token_states = dict.fromkeys(filter(None, (config.token, *config.further_tokens)), TokenState.VALID)
        self.limiter = RateLimiter(config.limits, clock, config.time_zone)
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self.report_unknown_property: Callable[[ObjectType, str], None] = lambda _type, _name: None
        self.clear_crm()

    @property
    def token_state(self) -> TokenState:
        """The state of the first token."""
        return next(iter(self.token_states.values()))

    @token_state.setter
    def token_state(self, state: TokenState) -> None:
        self.token_states[next(iter(self.token_states))] = state

    def replace_tokens(self, token: str) -> None:
        """Give the account one new valid token; its earlier tokens are unknown from now on."""
        self.token_states = {token: TokenState.VALID}

    def clear_crm(self) -> None:
        """Replace the CRM and the conversations by empty ones."""
        self.crm = CrmStore(self.config, self._clock, self._rng, self._report_change, self._report_unknown)
        self.conversations = Conversations(self._clock, self._rng, self._report_change)

    def _report_unknown(self, type_: ObjectType, name: str) -> None:
        self.report_unknown_property(type_, name)

    def _report_change(self, change: Change) -> None:
        self._on_change(self, change)

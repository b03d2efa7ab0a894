"""What to do about each event: the part you edit. Rule: a handler sees its event and its tools, and nothing else.

Every handler stands in one of the routers listed here; reading this list is reading what the deployment does.
"""

from handlers import companies, contacts, deals, privacy, tickets
from spokes.routing import Router

ROUTER = Router(contacts.router, companies.router, deals.router, tickets.router, privacy.router)

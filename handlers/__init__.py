"""Your handlers: the part of this project that you edit. `ROUTER` lists their routers.

A deployment runs the handlers of these routers and no others.
"""

from handlers import companies, contacts, deals, privacy, tickets
from spokes import Router

ROUTER = Router(contacts.router, companies.router, deals.router, tickets.router, privacy.router)

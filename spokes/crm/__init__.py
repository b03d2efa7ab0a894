"""HubSpot's CRM: services for handlers, over batch queues, one rate budget and one client.

A write passes five layers. Their types say on which side they are used:

- the handler's: `objects` checks rights and values; `access` surrounds the write with ledger entry and write record;
- the process's: a queue of `batching` lets many submissions share one request;
- the wire's: `transport.paced_client` waits for a slot of the rate budget; `transport.client` makes the call.
"""

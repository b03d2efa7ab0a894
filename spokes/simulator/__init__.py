"""A HubSpot simulator for tests and demos: its CRM API with its limits, and its signed webhook deliveries.

Of Spokes it imports only `spokes.core` (held by an import contract), and it signs requests with its own code, so that
it does not repeat errors of the tested code.
"""

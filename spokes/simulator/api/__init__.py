"""The CRM API over HTTP."""

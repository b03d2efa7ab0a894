"""The console's HTTP layer, shared by pages and API: authentication, authorization, headers, error responses."""

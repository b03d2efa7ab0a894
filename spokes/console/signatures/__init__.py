"""Why a captured request's signature does not match."""

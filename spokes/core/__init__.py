"""Contracts, settings and types that every process shares. Importing it opens no connection and no file."""

"""Erase or export one person's data everywhere we hold it."""

"""Erase or export one person everywhere we hold data."""

"""Tests of spokes.core.settings."""

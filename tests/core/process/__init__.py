"""Tests of spokes.core.process."""

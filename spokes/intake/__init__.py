"""Classify events and admit them to the queue; shared by every source of events."""

"""Gaps: intervals in which events may have been missed, kept until something proves that none is missing."""

"""Dedupe marks: which events were admitted; admission.lua adds them."""

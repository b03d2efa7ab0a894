"""Delivery of signed events to the target, in batches and with retries."""

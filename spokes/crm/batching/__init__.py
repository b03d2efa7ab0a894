"""Batch queues: the inputs of many callers share calls of HubSpot."""

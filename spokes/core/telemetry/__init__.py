"""Logs, metrics, alerts and Sentry for every process."""

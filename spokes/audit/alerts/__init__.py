"""The state of alerts: which are active, their webhook, and reports from code that cannot wait or that skips items."""

"""What is paused: a portal, a kind of call, a host, a handler; by whom, why, and until when."""

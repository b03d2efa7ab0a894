"""Run the whole deployment on one machine, for `spokes up`."""

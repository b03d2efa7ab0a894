"""The event loop of simulator, receiver and worker, and the tasks that handlers start in it."""

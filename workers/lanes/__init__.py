"""What waits to run: the work items of each object, the tasks that run them, and how an item ends."""

"""State of the queue that workers write and operators change: dead letters, portal pauses, unreadable jobs."""

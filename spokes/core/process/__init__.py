"""What a process needs around its own work: private files, a file with settings, its port, and child processes."""

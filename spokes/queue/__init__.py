"""Queue state that workers write and operators change."""

"""SQL: what a task is. Nothing outside this package writes SQL."""

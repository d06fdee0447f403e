"""What looks at a task: live files, saved outputs, its state, its followers."""

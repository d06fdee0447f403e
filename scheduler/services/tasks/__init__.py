"""A task from its submission to its queue: submit, enqueue, kill, extend, explain."""

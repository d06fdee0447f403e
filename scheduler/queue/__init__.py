"""The scheduler's verbs on Redis."""

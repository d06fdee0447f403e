"""The executor's verbs on Redis."""

"""The executor's calls to Redis."""

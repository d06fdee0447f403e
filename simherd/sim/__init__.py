"""Breaking a fleet on purpose: what `simherd sim` does to machines, to Redis, to the storage."""

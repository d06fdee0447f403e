"""The scheduler: HTTP API, task store, machine-group queue, providers and background jobs."""

"""One use case a file: domain, store and queue together; each owns its transaction."""

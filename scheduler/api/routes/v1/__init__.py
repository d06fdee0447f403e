"""Routes of Simherd beyond the published contract, under `/v1`."""

from scheduler.api.routes.v1 import costs, storage, tasks

__all__ = ["costs", "storage", "tasks"]

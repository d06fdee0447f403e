"""Machines: launch, admit to Redis, watch their health, terminate."""
